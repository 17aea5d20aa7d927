
'use strict';
// What both parts share: the record, how it is said, what is looked for, and the tables.
const timings = (() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const lanes = document.getElementById('lanes');
  // Where nothing started there is nothing to draw.
  if (!data || !lanes) return null;
  const { ended, planned, groups, workers } = data;
  const labels = Object.fromEntries(data.kinds);
  const tasks = data.tasks.map((row, i) => {
    const task = { row: i };
    data.columns.forEach((column, c) => { task[column] = row[c]; });
    task.cluster = task.group === null ? 'the mesh' : groups[task.group];
    task.begun = task.start !== null;
    // Without an end it went on until the run's.
    task.until = task.freed ?? ended;
    task.done = task.end ?? ended;
    task.work = task.begun ? (task.worked ?? ended) - task.start : 0;
    task.wait = task.begun ? task.start - task.ready : 0;
    task.naming = task.begun ? task.done - task.until : 0;
    task.color = task.state === 'failed' ? 'failed' : task.kind;
    task.text = (task.name + '\n' + task.cluster).toLowerCase();
    task.found = true;
    return task;
  });
  const path = new Set(data.path);

  const time = (micros) => {
    const ms = micros / 1000;
    if (micros === 0) return '0';
    if (micros < 1e3) return ms.toFixed(2) + ' ms';
    if (micros < 1e4) return ms.toFixed(1) + ' ms';
    if (micros < 1e6) return ms.toFixed(0) + ' ms';
    if (micros < 1e7) return (ms / 1000).toFixed(2) + ' s';
    if (micros < 6e7) return (ms / 1000).toFixed(1) + ' s';
    return Math.floor(micros / 6e7) + ' min ' + Math.floor(micros / 1e6) % 60 + ' s';
  };

  const element = (name, props, ...children) => {
    const made = Object.assign(document.createElement(name), props);
    made.append(...children);
    return made;
  };

  // All that is known of a task, a line each; the first is its heading.
  const describe = (task) => {
    const lines = [`${labels[task.kind]}, ${task.cluster}${path.has(task.row) ? ', on the critical path' : ''}`];
    const name = (row) => tasks[row].name;
    if (!task.begun) {
      lines.push('failed before it started');
    } else {
      const ends = { failed: 'failed', unfinished: 'did not finish', current: 'found nothing to change', done: 'done' };
      lines.push(`worker ${workers[task.worker]}: started at ${time(task.start)}, worked ${time(task.work)}, ${ends[task.state]} at ${time(task.done)}`);
      if (task.needs !== null) lines.push(`waited ${time(task.ready - planned)} for ${name(task.needs)}, the last that it needs`);
      if (task.wait > 0) {
        const why = task.held === 'worker'
          ? `for a free worker${task.follows === null ? '' : ` (${name(task.follows)} had it)`}`
          : task.held === 'names' ? 'for files to be synced and named' : 'to be given out';
        lines.push(`ready at ${time(task.ready)}, then waited ${time(task.wait)} ${why}`);
      }
      task.waits.forEach(([at, on], i) => {
        const to = i + 1 < task.waits.length ? task.waits[i + 1][0] : task.worked ?? ended;
        lines.push(`on its way, waited ${time(to - at)} at most for ${on}`);
      });
      const late = task.until - (task.worked ?? task.until);
      if (late > 0) lines.push(`waited ${time(late)} for its result to be taken in`);
      if (task.naming > 0) lines.push(`waited ${time(task.naming)} for its file's name, given after its group's sync`);
    }
    if (task.told) lines.push(task.told);
    return [task.name, ...lines];
  };

  const tip = element('div', { id: 'tip', hidden: true });
  document.body.append(tip);
  const fill = (box, [head, ...lines]) => {
    box.replaceChildren(element('b', {}, element('bdi', {}, head)), ...lines.map((line) => element('div', {}, line)));
  };
  const point = (event, lines) => {
    tip.hidden = !lines;
    if (!lines) return;
    fill(tip, lines);
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - width - 6);
    const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
    tip.style.left = Math.max(6, left) + 'px';
    tip.style.top = Math.max(6, top) + 'px';
  };
  addEventListener('scroll', () => { tip.hidden = true; }, { passive: true });

  // What is looked for: names of tasks and clusters that contain it.
  const listeners = [];
  const find = { word: '', has: (task) => task.found };
  const input = element('input', { type: 'search', id: 'find', placeholder: 'part of a name', spellcheck: false, autocomplete: 'off' });
  const found = element('span', { className: 'dim' });
  found.setAttribute('role', 'status');
  const look = (word) => {
    find.word = word.trim().toLowerCase();
    tasks.forEach((task) => { task.found = task.text.includes(find.word); });
    found.textContent = find.word ? `${tasks.filter(find.has).length} of ${tasks.length} tasks` : '';
    listeners.forEach((listener) => listener());
  };
  let later = 0;
  input.addEventListener('input', () => {
    clearTimeout(later);
    later = setTimeout(() => look(input.value), 120);
  });
  const choose = (word) => {
    input.value = word;
    look(word);
    input.focus();
  };
  lanes.before(element('div', { className: 'tools find' },
    element('label', { htmlFor: 'find' }, 'Cluster or task'), input, found));

  const collator = new Intl.Collator(undefined, { numeric: true });

  // A table that sorts by any column and grows on request.
  const STEP = 100;
  const grid = (id, title, columns, rows, by) => {
    const section = document.getElementById(id);
    const heading = section.querySelector('h2');
    let sort = { column: columns.findIndex((c) => c.name === by), down: true };
    let shown = STEP;
    const note = element('span', { className: 'dim' });
    const heads = columns.map((column, i) => {
      const button = element('button', { type: 'button' }, column.name);
      const cell = element('th', { scope: 'col', className: column.number ? 'num' : column.className ?? '' });
      if (!column.key) {
        cell.append(column.name);
        return cell;
      }
      button.addEventListener('click', () => {
        sort = { column: i, down: sort.column === i ? !sort.down : !!column.number };
        draw();
      });
      cell.append(button);
      return cell;
    });
    const body = element('tbody', {});
    const grow = element('button', { type: 'button' }, `Show ${STEP} more`);
    grow.addEventListener('click', () => { shown += STEP; draw(); });
    const draw = () => {
      const { key } = columns[sort.column];
      const sign = sort.down ? -1 : 1;
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        return sign * (typeof x === 'string' ? collator.compare(x, y) : x - y);
      };
      const wanted = rows().sort(order);
      heads.forEach((cell, i) => {
        if (i === sort.column) cell.setAttribute('aria-sort', sort.down ? 'descending' : 'ascending');
        else cell.removeAttribute('aria-sort');
        const button = cell.querySelector('button');
        if (button) button.textContent = columns[i].name + (i === sort.column ? (sort.down ? ' ↓' : ' ↑') : '');
      });
      body.replaceChildren(...wanted.slice(0, shown).map((one) => element('tr', {},
        ...columns.map((column) => element('td', { className: column.number ? 'num' : column.className ?? '' }, column.cell(one))))));
      grow.hidden = wanted.length <= shown;
      note.textContent = wanted.length > shown ? `${shown} of ${wanted.length} are shown` : `${wanted.length} in all`;
    };
    heading.textContent = title;
    section.replaceChildren(heading,
      element('div', { className: 'scroll' }, element('table', {}, element('thead', {}, element('tr', {}, ...heads)), body)),
      element('p', { className: 'tools' }, grow, note));
    listeners.push(() => { shown = STEP; draw(); });
    draw();
  };

  const bdi = (text) => element('bdi', {}, text);
  const number = (name, key) => ({ name, key, number: true, cell: (one) => time(key(one)) });
  const text = (name, key, cell) => ({ name, key, cell: cell ?? ((one) => bdi(key(one))) });

  // ---- tasks by cluster

  const SVG = 'http://www.w3.org/2000/svg';
  const strip = (cluster) => {
    const svg = document.createElementNS(SVG, 'svg');
    const set = (node, values) => Object.entries(values).forEach(([k, v]) => node.setAttribute(k, v));
    set(svg, { class: 'strip', viewBox: '0 0 1000 14', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    for (const task of cluster.tasks) {
      const bar = document.createElementNS(SVG, 'rect');
      const x = 1000 * task.start / ended;
      set(bar, { class: 'k-' + task.color, x, y: 1, height: 12, width: Math.max(2, 1000 * task.work / ended) });
      bar.addEventListener('pointermove', (event) => point(event, describe(task)));
      bar.addEventListener('pointerleave', () => point(null, null));
      svg.append(bar);
    }
    return svg;
  };
  const clusters = new Map();
  for (const task of tasks.filter((t) => t.begun)) {
    let cluster = clusters.get(task.cluster);
    if (!cluster) clusters.set(task.cluster, cluster = { name: task.cluster, tasks: [], work: 0, wait: 0, done: 0, longest: task });
    cluster.tasks.push(task);
    cluster.work += task.work;
    cluster.wait += task.wait;
    cluster.done = Math.max(cluster.done, task.done);
    if (task.work > cluster.longest.work) cluster.longest = task;
  }
  grid('clusters', 'Tasks by cluster', [
    text('Cluster', (c) => c.name, (c) => {
      const button = element('button', { type: 'button', title: 'look for its tasks' }, bdi(c.name));
      button.addEventListener('click', () => choose(c.name));
      return button;
    }),
    { name: 'In the run’s time', className: 'strips', cell: strip },
    { name: 'Tasks', key: (c) => c.tasks.length, number: true, cell: (c) => String(c.tasks.length) },
    number('Work in all', (c) => c.work),
    text('Longest task', (c) => c.longest.name),
    number('It worked', (c) => c.longest.work),
    number('Ready, but waited', (c) => c.wait),
    number('Done at', (c) => c.done),
  ], () => [...clusters.values()].filter((c) => !find.word || c.tasks.some(find.has)), 'Work in all');

  // ---- every task

  grid('tasks', 'All tasks', [
    text('Task', (t) => t.name, (t) => {
      if (!t.begun) return bdi(t.name);
      const button = element('button', { type: 'button', title: 'show it among the workers' }, bdi(t.name));
      button.addEventListener('click', () => timings.show(t));
      return button;
    }),
    text('Kind', (t) => labels[t.kind]),
    text('Ended', (t) => t.state),
    number('Start', (t) => t.start ?? 0),
    number('Worked', (t) => t.work),
    number('For what it needs', (t) => Math.max(0, t.ready - planned)),
    number('Ready, but waited', (t) => t.wait),
    number('For its name', (t) => t.naming),
    number('Done at', (t) => t.done),
  ], () => tasks.filter(find.has), 'Worked');

  return { data, tasks, path, time, element, describe, fill, point, find, listeners, lanes, show: () => {} };
})();
