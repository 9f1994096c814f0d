'use strict';
// Theme: the system's, or what was chosen. Names from files only ever become text, never markup.
const root = document.documentElement, themes = ['system', 'light', 'dark'];
const remembered = () => { try { return localStorage.getItem('h3delandmarks-theme') || 'system'; } catch { return 'system'; } };
function setTheme(name) {
  if (name === 'system') delete root.dataset.theme; else root.dataset.theme = name;
  document.getElementById('theme').textContent = 'Theme: ' + name;
  try { localStorage.setItem('h3delandmarks-theme', name); } catch { /* a file may not remember */ }
}
setTheme(remembered());
document.getElementById('theme').onclick = () => setTheme(themes[(themes.indexOf(root.dataset.theme || 'system') + 1) % 3]);

// Tables: a click on a heading sorts, what has no value comes last; a search hides other rows.
for (const details of document.querySelectorAll('details.table')) {
  const body = details.querySelector('tbody'), heads = [...details.querySelectorAll('th')];
  heads.forEach((head, column) => head.querySelector('button').onclick = () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const value = row => row.cells[column].dataset.value;
    const compare = (a, b) => a === b ? 0 : isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    body.append(...[...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return down ? compare(y, x) : compare(x, y);
    }));
  });
  const find = details.querySelector('.find');
  if (find) find.oninput = () => {
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(find.value.toLowerCase());
  };
}

const holder = document.getElementById('data');
if (holder) showCases(JSON.parse(holder.textContent));

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// data: names and states of landmarks, models, and cases whose points are
// [name, state, doubt, confidence, radius, presence, [x, y, z], [u, v, u, v, ...]], see cohort_sections.card_data.
function showCases(data) {
  const { names, states, byPerson, models, caseStates, cases } = data;
  const field = id => document.getElementById(id), grid = field('cards');
  const NAME = 0, STATE = 1, DOUBT = 2, CONFIDENCE = 3, RADIUS = 4, PLACE = 6, MARKS = 7;
  const number = (value, digits = 2) => value === null ? '\u2013' : value.toFixed(digits);
  const color = doubt => doubt === null ? 'cn' : 'c' + Math.min(4, Math.floor((1 - doubt) * 5));

  function options(select, entries) {
    select.append(...entries.map(([value, text]) => { const o = make('option', '', text); o.value = value; return o; }));
  }
  options(field('state'), [['', 'all'], ...caseStates.map((s, k) => [k, s])]);
  options(field('landmark'), [['', 'any'], ...names.map((n, k) => [k, n])]);
  options(field('point-state'), [['', 'any'], ['doubtful', 'doubtful (below 0.5)'], ...states.map((s, k) => [k, s])]);
  options(field('model'), [['', 'all'], ...models.map((m, k) => [k, m])]);
  options(field('order'), [['doubt', 'most doubtful first'], ['name', 'name'], ['radius', 'largest radius first'], ['seconds', 'slowest first']]);
  for (const [text, shape, kind] of [['confidence below 0.2', 'o', 'c0'], ['to 0.4', 'o', 'c1'], ['to 0.6', 'o', 'c2'], ['to 0.8', 'o', 'c3'], ['above 0.8', 'o', 'c4'], ['not rated', 'o', 'cn'], ['by a person', 'd', 'cn']]) {
    const item = make('span'), svg = draw('svg', { viewBox: '-5 -5 10 10' });
    svg.append(mark(0, 0, 3, shape === 'd', kind));
    item.append(svg, text);
    field('legend').append(item);
  }

  function mark(x, y, size, diamond, kind) {
    const r = diamond ? size * 1.25 : size;
    return diamond ? draw('path', { d: `M${x - r} ${y}L${x} ${y - r}L${x + r} ${y}L${x} ${y + r}Z`, class: 'point ' + kind })
      : draw('circle', { cx: x, cy: y, r, class: 'point ' + kind });
  }

  function view(one, chosen, size) {
    const { width, height, image, views, scale } = one.picture;
    const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'The scan with its points' });
    if (image) svg.append(draw('image', { href: image, width, height }));
    for (const [x, y, w, h, letters] of views) {
      const places = [[x + 3, y + h / 2 + 3, 'start'], [x + w - 3, y + h / 2 + 3, 'end'], [x + w / 2, y + 9, 'middle'], [x + w / 2, y + h - 3, 'middle']];
      [...letters].forEach((letter, k) => svg.append(draw('text', { x: places[k][0], y: places[k][1], 'text-anchor': places[k][2] }, letter)));
    }
    const order = one.points.filter(p => p[MARKS]).sort((a, b) => (a[DOUBT] ?? -1) - (b[DOUBT] ?? -1));
    for (const point of order) {
      for (let k = 0; k < point[MARKS].length; k += 2) {
        const other = chosen !== null && point[NAME] !== chosen;
        const decided = byPerson.includes(point[STATE]), kind = decided ? 'cn' : color(point[DOUBT]);
        const shape = mark(point[MARKS][k], point[MARKS][k + 1], other ? size * 0.7 : size, decided, kind + (other ? ' other' : ''));
        shape.append(draw('title', {}, `${names[point[NAME]]}: ${states[point[STATE]]}, confidence ${number(point[CONFIDENCE])}`));
        svg.append(shape);
      }
    }
    if (scale) {
      const mm = [1, 2, 5, 10, 20, 50, 100].filter(length => length * scale <= width / 5).pop() || 1;
      svg.append(draw('path', { d: `M4 ${height - 4}h${mm * scale}`, stroke: '#e6edf3', 'stroke-width': 1.5 }), draw('text', { x: 4, y: height - 7 }, `${mm} ${one.unit}`));
    }
    const frame = make('span', 'view');
    frame.append(svg);
    return frame;
  }

  const tone = one => ['good', 'doubt', 'doubt', 'bad', 'bad'][one.state];
  function fill(card, one) {
    if (card.firstChild) return;
    const head = make('header'), name = make('button', 'name', one.name);
    name.type = 'button';
    name.title = one.name;
    name.onclick = () => open(one);
    head.append(name, make('span', 'badge ' + tone(one), caseStates[one.state]));
    const about = [one.subject, one.summary, models[one.model]].filter(Boolean).join(' \u00b7 ');
    const line = make('div', 'small', about);
    line.title = about;
    card.append(head, line);
    if (one.reason) { card.append(make('div', 'reason', one.reason)); return; }
    if (one.picture) card.append(view(one, chosen(), 2.6));
    const worst = make('ul', 'worst');
    const listed = one.points.filter(p => p[DOUBT] !== null).sort((a, b) => b[DOUBT] - a[DOUBT]);
    for (const p of (chosen() === null ? listed : one.points.filter(p => p[NAME] === chosen())).slice(0, 2)) {
      const item = make('li');
      item.append(make('span', '', names[p[NAME]]), make('span', '', said(p, one)));
      worst.append(item);
    }
    card.append(worst);
  }
  const said = (p, one) => p[PLACE] ? `${states[p[STATE]]}, confidence ${number(p[CONFIDENCE])}` + (p[RADIUS] === null ? '' : `, \u00b1${number(p[RADIUS], 1)} ${one.unit}`) : states[p[STATE]];
  const chosen = () => field('landmark').value === '' ? null : Number(field('landmark').value);

  // A card has content only near what is seen.
  const cards = cases.map(one => { const card = make('article', 'card'); card.one = one; return card; });
  const watch = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) fill(target, target.one); else target.replaceChildren();
  }, { rootMargin: '900px 0px' });
  cards.forEach(card => watch.observe(card));

  const sorters = {
    doubt: one => -(chosen() === null ? one.doubt ?? -1 : one.points.find(p => p[NAME] === chosen())?.[DOUBT] ?? -1),
    radius: one => -Math.max(-1, ...one.points.filter(p => chosen() === null || p[NAME] === chosen()).map(p => p[RADIUS] ?? -1)),
    seconds: one => -(one.seconds ?? -1),
    name: () => 0,
  };
  let shown = [];
  function apply() {
    const state = field('state').value, model = field('model').value, pointState = field('point-state').value;
    const text = field('text').value.trim().toLowerCase(), landmark = chosen();
    const fits = p => (landmark === null || p[NAME] === landmark)
      && (pointState === '' || (pointState === 'doubtful' ? p[DOUBT] !== null && p[DOUBT] > 0.5 : p[STATE] === Number(pointState)));
    shown = cards.filter(({ one }) => (state === '' || one.state === Number(state)) && (model === '' || one.model === Number(model))
      && (text === '' || one.search.includes(text)) && (landmark === null && pointState === '' || one.points.some(fits)));
    const key = sorters[field('order').value], keys = new Map(shown.map(card => [card, key(card.one)]));
    shown.sort((a, b) => keys.get(a) - keys.get(b) || a.one.name.localeCompare(b.one.name, 'en', { numeric: true }));
    cards.forEach(card => card.replaceChildren());
    shown.forEach((card, k) => card.classList.toggle('beyond-print', k >= data.printed));
    grid.replaceChildren(...shown);
    shown.forEach(card => { watch.unobserve(card); watch.observe(card); });
    field('shown').textContent = `${shown.length} of ${cases.length} shown`;
    const rest = shown.length - data.printed;
    field('print-rest').textContent = rest > 0 ? `${rest} more are not printed: filter them in this page on a screen.` : '';
  }
  const form = field('filters');
  form.oninput = apply;
  form.onsubmit = event => event.preventDefault();
  form.onreset = () => setTimeout(apply);
  apply();
  addEventListener('beforeprint', () => shown.slice(0, data.printed).forEach(card => fill(card, card.one)));

  // Detail of one case.
  const dialog = field('detail');
  let current = null;
  function table(heads, rows) {
    const scroll = make('div', 'scroll'), element = make('table'), head = make('tr'), body = make('tbody');
    head.append(...heads.map(text => make('th', '', text)));
    for (const row of rows) { const line = make('tr'); line.append(...row.map(text => make('td', typeof text === 'number' ? 'number' : '', text))); body.append(line); }
    const top = make('thead');
    top.append(head);
    element.append(top, body);
    scroll.append(element);
    return scroll;
  }
  function open(one) {
    current = one;
    field('detail-title').textContent = one.name;
    const body = field('detail-body');
    body.replaceChildren(make('p', 'text', [caseStates[one.state], one.subject, models[one.model], one.summary, one.reason, one.seconds === null ? '' : one.seconds.toFixed(1) + ' s'].filter(Boolean).join(' \u00b7 ')));
    if (one.picture) body.append(view(one, chosen(), 2));
    const links = make('p', 'text');
    for (const [text, address] of one.links) { const link = make('a', '', text); link.href = address; links.append(link, ' '); }
    body.append(links);
    if (one.measurements.length) body.append(make('h3', '', 'Measurements'), table(['measurement', 'value', '90 % interval', 'usual', ''], one.measurements));
    if (one.points.length) body.append(make('h3', '', 'Landmarks'), table(['landmark', 'state', 'confidence', '90 % radius, ' + one.unit, 'L, P, S, ' + one.unit],
      [...one.points].sort((a, b) => (b[DOUBT] ?? -1) - (a[DOUBT] ?? -1)).map(p => [names[p[NAME]], states[p[STATE]], number(p[CONFIDENCE]), number(p[RADIUS]), p[PLACE] ? p[PLACE].map(v => v.toFixed(2)).join(', ') : '\u2013'])));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  const step = by => { const next = shown[shown.findIndex(card => card.one === current) + by]; if (next) open(next.one); };
  field('previous').onclick = () => step(-1);
  field('next').onclick = () => step(1);
  field('close').onclick = () => dialog.close();
  dialog.onkeydown = event => { if (event.key === 'ArrowLeft') step(-1); if (event.key === 'ArrowRight') step(1); };
}
