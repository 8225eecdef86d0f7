(() => {
  // Tabs: arrow keys, Home and End move between them; the address keeps the tab, so that it can be sent to somebody.
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const getPanelId = tab => tab.getAttribute('aria-controls');
  const openTab = (tab, takesFocus) => {
    tabs.forEach(other => {
      const isOpen = other === tab;
      other.setAttribute('aria-selected', isOpen);
      other.tabIndex = isOpen ? 0 : -1;
      const panel = document.getElementById(getPanelId(other));
      if (panel) panel.hidden = !isOpen;
    });
    tab.scrollIntoView({block: 'nearest', inline: 'nearest'});
    if (takesFocus) tab.focus();
  };
  const keepInAddress = tab => history.replaceState(null, '', '#' + getPanelId(tab));
  const findTabOfAddress = () => tabs.find(tab => '#' + getPanelId(tab) === location.hash) || tabs[0];
  tabs.forEach((tab, index) => {
    tab.addEventListener('click', () => { keepInAddress(tab); openTab(tab); });
    tab.addEventListener('keydown', event => {
      const target = {ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1}[event.key];
      if (target === undefined) return;
      event.preventDefault();
      const next = tabs[(target + tabs.length) % tabs.length];
      keepInAddress(next);
      openTab(next, true);
    });
  });
  if (tabs.length) {
    openTab(findTabOfAddress());
    addEventListener('hashchange', () => openTab(findTabOfAddress()));
  }

  // Parts of the page that are chosen by lists: <select data-show=GROUP>, elements with data-in=GROUP data-is=VALUE|VALUE.
  document.querySelectorAll('select[data-show]').forEach(select => {
    const group = select.dataset.show;
    const showChosenPart = () => {
      const selects = [...document.querySelectorAll(`select[data-show="${group}"]`)];
      const chosen = selects.map(other => other.value).join('|');
      document.querySelectorAll(`[data-in="${group}"]`).forEach(part => { part.hidden = part.dataset.is !== chosen; });
    };
    select.addEventListener('change', showChosenPart);
    showChosenPart();
  });
  document.querySelectorAll('form.choose[method=get] select').forEach(select => {
    select.addEventListener('change', () => select.form.requestSubmit());
  });

  const baseUrl = (document.body.dataset.baseUrl || '/voila/').replace(/voila\/$/, '');
  const readJson = response => response.ok ? response.json() : Promise.reject(response);

  // What only the server knows: <p data-note>.
  const note = document.querySelector('[data-note]');
  if (note) {
    fetch(baseUrl + 'mlops/note').then(readJson).then(answer => {
      if (!answer.note) return;
      note.textContent = '◆ ' + answer.note;
      note.hidden = false;
    }).catch(() => {});
  }

  // Decisions: the server says who is here and what they may do, a dialog asks for the reason, the answer is shown.
  const buttons = [...document.querySelectorAll('button[data-act]')];
  const answerText = document.querySelector('.answer');
  let visitorText = document.querySelector('[data-who]');
  if (!visitorText && document.body.dataset.voila) {
    // A page without a head of ours, such as one that a project added.
    visitorText = document.createElement('p');
    visitorText.className = 'note';
    visitorText.dataset.who = '';
    document.querySelector('main').prepend(visitorText);
  }
  if (!visitorText && !buttons.length) return;
  const getCookie = name => (document.cookie.match('(?:^|; )' + name + '=([^;]*)') || [])[1] || '';
  const disableAll = reason => {
    if (visitorText) visitorText.textContent = reason;
    buttons.forEach(button => { button.disabled = true; button.title = reason; });
  };
  fetch(baseUrl + 'mlops/me').then(readJson).then(person => {
    if (!person.name) { disableAll(person.reason); return; }
    if (visitorText) visitorText.textContent = 'signed in: ' + person.name + (person.note ? ' (' + person.note + ')' : '');
    buttons.forEach(button => {
      if (button.dataset.closed) return;
      const isKnown = person.actions.includes(button.dataset.act);
      const refusal = isKnown ? (person.refused || {})[button.dataset.act] || '' : 'This server does not take this decision.';
      button.disabled = !!refusal;
      button.title = refusal;
    });
  }).catch(() => disableAll('The server does not say who you are; this page is read-only.'));

  const describeError = body => [
    body.error || body.message || 'The server refused.',
    body.expected && 'Expected: ' + body.expected + '.',
    body.hint && 'Hint: ' + body.hint + '.',
  ].filter(Boolean).join(' ');
  document.querySelectorAll('dialog[data-act]').forEach(dialog => {
    const form = dialog.querySelector('form');
    const alertText = dialog.querySelector('[role=alert]');
    const submit = form.querySelector('[type=submit]');
    buttons.filter(button => button.dataset.act === dialog.dataset.act).forEach(button => {
      button.addEventListener('click', () => { alertText.textContent = ''; dialog.showModal(); });
    });
    form.querySelector('[data-close]').addEventListener('click', () => dialog.close());
    form.addEventListener('submit', event => {
      event.preventDefault();
      const reason = form.elements.reason.value.trim();
      if (!reason) {
        alertText.textContent = 'Enter a reason that others can read later.';
        form.elements.reason.focus();
        return;
      }
      submit.disabled = true;
      const values = {...JSON.parse(dialog.dataset.about), ...Object.fromEntries(new FormData(form)), act: dialog.dataset.act, reason};
      fetch(baseUrl + 'mlops/decide', {
        method: 'POST',
        headers: {'Content-Type': 'application/json', 'X-XSRFToken': getCookie('_xsrf')},
        body: JSON.stringify(values),
      }).then(async response => ({isOk: response.ok, body: await response.json().catch(() => ({}))})).then(({isOk, body}) => {
        submit.disabled = false;
        if (!isOk) { alertText.textContent = describeError(body); return; }
        dialog.close();
        buttons.forEach(button => { button.disabled = true; });
        answerText.textContent = body.sentence;
        setTimeout(() => location.reload(), 1500);
      }).catch(() => {
        submit.disabled = false;
        alertText.textContent = 'The server does not answer. Load the page again to see whether the decision was recorded.';
      });
    });
  });
})();
(() => {
  // The time since a timestamp keeps counting: <time data-ago>.
  const formatAge = minutes => minutes < 120 ? minutes + ' min' : minutes < 2880 ? Math.floor(minutes / 60) + ' h' : Math.floor(minutes / 1440) + ' days';
  const updateAges = () => document.querySelectorAll('time[data-ago]').forEach(time => {
    const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(time.dateTime)) / 60000));
    time.textContent = formatAge(minutes) + ' ago';
  });
  setInterval(updateAges, 60000);

  // A heat map: arrow keys move, Enter or a click shows the two distributions behind a cell, which are on the page.
  const data = document.getElementById('sketches');
  const panel = document.querySelector('.sketch');
  const makeElement = (name, text, style) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (style) element.style.cssText = style;
    return element;
  };
  const formatShare = value => (100 * value).toFixed(value < .01 && value > 0 ? 1 : 0) + '%';
  let distributions;
  const findDistributions = key => {
    distributions = distributions || JSON.parse(data.textContent);
    const separator = key.indexOf('|');
    return (distributions[key.slice(0, separator)] || {})[key.slice(separator + 1)];
  };
  const makeHead = cell => {
    const head = makeElement('h3', '');
    const close = makeElement('button', 'Close');
    close.type = 'button';
    close.addEventListener('click', () => { panel.hidden = true; cell.removeAttribute('aria-selected'); cell.focus(); });
    head.append(makeElement('span', cell.getAttribute('aria-label') + '.'), close);
    return head;
  };
  const makeKey = () => {
    const key = makeElement('p', '');
    key.className = 'key';
    [['color-mix(in srgb,var(--faint) 55%,transparent)', 'reference'], ['var(--blue)', 'in this window']].forEach(([color, text]) => {
      const entry = makeElement('span');
      entry.append(makeElement('i', undefined, 'background:' + color), text);
      key.append(entry);
    });
    return key;
  };
  const makeRows = found => {
    const largest = Math.max(...found.reference, ...found.current) || 1;
    return found.bins.map((bin, index) => {
      const row = makeElement('div');
      const bars = makeElement('span');
      const shares = [found.reference[index], found.current[index]];
      row.className = 'two';
      shares.forEach(share => bars.append(makeElement('i', undefined, 'width:' + (100 * share / largest).toFixed(1) + '%')));
      row.append(makeElement('span', bin), bars, makeElement('span', shares.map(formatShare).join(' → ')));
      return row;
    });
  };
  const showDistributions = cell => {
    if (!data || !panel || !cell.dataset.behind) return;
    const found = findDistributions(cell.dataset.behind);
    document.querySelectorAll('.cells [aria-selected]').forEach(other => other.removeAttribute('aria-selected'));
    cell.setAttribute('aria-selected', true);
    const content = found ? [...makeRows(found), makeKey()] : [makeElement('p', 'No distributions were stored for this cell.')];
    panel.replaceChildren(makeHead(cell), ...content);
    panel.hidden = false;
  };
  document.querySelectorAll('.cells').forEach(grid => {
    const rows = [...grid.querySelectorAll('[role=row]')].map(row => [...row.querySelectorAll('[role=gridcell]')]);
    if (!rows.length) return;
    const cells = rows.flat();
    rows[0][rows[0].length - 1].tabIndex = 0;
    const moveTo = cell => {
      cells.forEach(other => { other.tabIndex = other === cell ? 0 : -1; });
      cell.focus();
    };
    grid.addEventListener('click', event => {
      const cell = event.target.closest('[role=gridcell]');
      if (cell) { moveTo(cell); showDistributions(cell); }
    });
    grid.addEventListener('keydown', event => {
      const cell = event.target.closest('[role=gridcell]');
      if (!cell) return;
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); showDistributions(cell); return; }
      const y = rows.findIndex(row => row.includes(cell));
      const x = rows[y].indexOf(cell);
      const targets = {ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1], ArrowDown: [y + 1, x], ArrowUp: [y - 1, x], Home: [y, 0], End: [y, rows[y].length - 1]};
      const target = targets[event.key];
      if (!target) return;
      event.preventDefault();
      const next = (rows[target[0]] || [])[target[1]];
      if (next) moveTo(next);
    });
  });
})();
