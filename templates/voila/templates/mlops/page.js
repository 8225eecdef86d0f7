(() => {
  // tabs: arrows, Home and End move; the address keeps the tab, so that it can be sent to somebody
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const open = (tab, focus) => {
    tabs.forEach(t => {
      const on = t === tab;
      t.setAttribute('aria-selected', on);
      t.tabIndex = on ? 0 : -1;
      const panel = document.getElementById(t.getAttribute('aria-controls'));
      if (panel) panel.hidden = !on;
    });
    tab.scrollIntoView({block: 'nearest', inline: 'nearest'});
    if (focus) tab.focus();
  };
  const named = () => tabs.find(t => '#' + t.getAttribute('aria-controls') === location.hash) || tabs[0];
  tabs.forEach((tab, i) => {
    tab.addEventListener('click', () => { history.replaceState(null, '', '#' + tab.getAttribute('aria-controls')); open(tab); });
    tab.addEventListener('keydown', e => {
      const to = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1}[e.key];
      if (to === undefined) return;
      e.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      history.replaceState(null, '', '#' + next.getAttribute('aria-controls'));
      open(next, true);
    });
  });
  if (tabs.length) { open(named()); addEventListener('hashchange', () => open(named())); }

  // what stands in the page already and is only chosen: <select data-show=GROUP> (one or more), elements data-in=GROUP data-is=VALUE|VALUE
  document.querySelectorAll('select[data-show]').forEach(select => {
    const group = select.dataset.show;
    const show = () => {
      const chosen = [...document.querySelectorAll(`select[data-show="${group}"]`)].map(s => s.value).join('|');
      document.querySelectorAll(`[data-in="${group}"]`).forEach(e => { e.hidden = e.dataset.is !== chosen; });
    };
    select.addEventListener('change', show);
    show();
  });
  document.querySelectorAll('form.choose[method=get] select').forEach(s => s.addEventListener('change', () => s.form.requestSubmit()));

  // what only the server knows: <p data-note>
  const told = document.querySelector('[data-note]');
  if (told) fetch((document.body.dataset.baseUrl || '/voila/').replace(/voila\/$/, '') + 'mlops/note').then(r => r.ok ? r.json() : {}).then(said => { if (said.note) { told.textContent = '◆ ' + said.note; told.hidden = false; } }).catch(() => {});

  // decisions: the server says who is here and what may be done; a dialog asks for the reason; the answer is shown in words
  const buttons = [...document.querySelectorAll('button[data-act]')];
  if (!buttons.length) return;
  const base = (document.body.dataset.baseUrl || '/voila/').replace(/voila\/$/, '');
  const said = document.querySelector('.answer'), who = document.querySelector('[data-who]');
  const cookie = name => (document.cookie.match('(?:^|; )' + name + '=([^;]*)') || [])[1] || '';
  const closed = why => { if (who) who.textContent = why; buttons.forEach(b => { b.disabled = true; b.title = why; }); };
  fetch(base + 'mlops/me').then(r => r.ok ? r.json() : Promise.reject(r)).then(me => {
    if (!me.name) return closed(me.reason);
    if (who) who.textContent = 'signed in: ' + me.name + (me.note ? ' (' + me.note + ')' : '');
    buttons.forEach(b => {
      const no = me.actions.includes(b.dataset.act) ? (me.refused || {})[b.dataset.act] || '' : 'This server does not take this decision.';
      if (b.dataset.closed) return;
      b.disabled = !!no; b.title = no;
    });
  }).catch(() => closed('The server does not say who you are; this page is to read only.'));
  document.querySelectorAll('dialog[data-act]').forEach(dialog => {
    const form = dialog.querySelector('form'), wrong = dialog.querySelector('[role=alert]'), send = form.querySelector('[type=submit]');
    const opens = buttons.filter(b => b.dataset.act === dialog.dataset.act);
    opens.forEach(b => b.addEventListener('click', () => { wrong.textContent = ''; dialog.showModal(); }));
    form.querySelector('[data-close]').addEventListener('click', () => dialog.close());
    form.addEventListener('submit', e => {
      e.preventDefault();
      const reason = form.elements.reason.value.trim();
      if (!reason) { wrong.textContent = 'Say why, in a sentence that others can read later.'; form.elements.reason.focus(); return; }
      send.disabled = true;
      fetch(base + 'mlops/decide', {
        method: 'POST', headers: {'Content-Type': 'application/json', 'X-XSRFToken': cookie('_xsrf')},
        body: JSON.stringify({...JSON.parse(dialog.dataset.about), ...Object.fromEntries(new FormData(form)), act: dialog.dataset.act, reason}),
      }).then(async r => ({ok: r.ok, body: await r.json().catch(() => ({}))})).then(({ok, body}) => {
        send.disabled = false;
        if (!ok) {
          wrong.textContent = [body.error || body.message || 'The server refused.', body.expected && 'Expected: ' + body.expected + '.', body.hint && 'Hint: ' + body.hint + '.'].filter(Boolean).join(' ');
          return;
        }
        dialog.close();
        buttons.forEach(b => { b.disabled = true; });
        said.textContent = body.sentence;
        setTimeout(() => location.reload(), 1500);
      }).catch(() => { send.disabled = false; wrong.textContent = 'The server does not answer. Nothing was recorded as far as this page knows; load it again to see.'; });
    });
  });
})();
(() => {
  // how long ago a moment was goes on counting: <time data-ago>
  const ago = () => document.querySelectorAll('time[data-ago]').forEach(t => {
    const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(t.dateTime)) / 60000));
    t.textContent = (minutes < 120 ? minutes + ' min' : minutes < 2880 ? Math.floor(minutes / 60) + ' h' : Math.floor(minutes / 1440) + ' days') + ' ago';
  });
  setInterval(ago, 60000);

  // a heat map: arrows walk, Enter or a click shows the two distributions behind a cell, from what stands in the page
  const held = document.getElementById('sketches'), shown = document.querySelector('.sketch');
  const make = (name, text, style) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (style) e.style.cssText = style; return e; };
  let all;
  const show = cell => {
    if (!held || !shown || !cell.dataset.behind) return;
    all = all || JSON.parse(held.textContent);
    const at = cell.dataset.behind.indexOf('|');
    const found = (all[cell.dataset.behind.slice(0, at)] || {})[cell.dataset.behind.slice(at + 1)];
    document.querySelectorAll('.cells [aria-selected]').forEach(c => c.removeAttribute('aria-selected'));
    cell.setAttribute('aria-selected', true);
    const head = make('h3', ''), close = make('button', 'Close');
    close.type = 'button';
    close.addEventListener('click', () => { shown.hidden = true; cell.removeAttribute('aria-selected'); cell.focus(); });
    head.append(make('span', cell.getAttribute('aria-label') + '.'), close);
    const key = make('p', '');
    key.className = 'key';
    [['color-mix(in srgb,var(--faint) 55%,transparent)', 'when judged'], ['var(--blue)', 'in this window']].forEach(([colour, word]) => { const s = make('span'); s.append(make('i', undefined, 'background:' + colour), word); key.append(s); });
    const rows = [];
    if (found) {
      const most = Math.max(...found.reference, ...found.current) || 1, said = v => (100 * v).toFixed(v < .01 && v > 0 ? 1 : 0) + ' %';
      found.bins.forEach((bin, i) => {
        const row = make('div'), bars = make('span');
        row.className = 'two';
        [found.reference[i], found.current[i]].forEach(v => bars.append(make('i', undefined, 'width:' + (100 * v / most).toFixed(1) + '%')));
        row.append(make('span', bin), bars, make('span', said(found.reference[i]) + ' → ' + said(found.current[i])));
        rows.push(row);
      });
    }
    shown.replaceChildren(head, ...(found ? [...rows, key] : [make('p', 'No distribution was stored for it.')]));
    shown.hidden = false;
  };
  document.querySelectorAll('.cells').forEach(grid => {
    const rows = [...grid.querySelectorAll('[role=row]')].map(r => [...r.querySelectorAll('[role=gridcell]')]);
    if (!rows.length) return;
    const cells = rows.flat(), start = rows[0][rows[0].length - 1];
    start.tabIndex = 0;
    const go = cell => { cells.forEach(c => { c.tabIndex = c === cell ? 0 : -1; }); cell.focus(); };
    grid.addEventListener('click', e => { const cell = e.target.closest('[role=gridcell]'); if (cell) { go(cell); show(cell); } });
    grid.addEventListener('keydown', e => {
      const cell = e.target.closest('[role=gridcell]');
      if (!cell) return;
      if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); show(cell); return; }
      const y = rows.findIndex(r => r.includes(cell)), x = rows[y].indexOf(cell);
      const to = {ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1], ArrowDown: [y + 1, x], ArrowUp: [y - 1, x], Home: [y, 0], End: [y, rows[y].length - 1]}[e.key];
      if (!to) return;
      e.preventDefault();
      const next = (rows[to[0]] || [])[to[1]];
      if (next) go(next);
    });
  });
})();
