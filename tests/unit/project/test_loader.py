"""Loading of ``mlops.yaml`` with settings under their earlier names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.project import loader


def test_setting_under_an_earlier_name_works_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "name: a\nsource: t.csv\ntarget: y\ntask: binary\nleave_out: [x]\nsplit: {test: 0.3}\n"
    (tmp_path / "mlops.yaml").write_text(text)
    config = loader.load_project(tmp_path).config
    assert config.excluded_columns == ["x"]
    assert config.validation.test == 0.3
    messages = [record.getMessage() for record in caplog.records]
    assert any("'leave_out' is now called 'excluded_columns'" in line for line in messages)
    assert any("'split.test' is now called 'validation.test'" in line for line in messages)
    (tmp_path / "mlops.yaml").write_text(text + "excluded_columns: [z]\n")
    with pytest.raises(KitError, match="sets 'excluded_columns' and also 'leave_out'"):
        loader.load_project(tmp_path)
