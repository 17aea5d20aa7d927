
// The lanes: a row for the run itself and one for each worker, drawn on a canvas that zooms and pans.
if (timings) (() => {
  const { data, tasks, path, time, element, describe, fill, point, find, listeners, lanes } = timings;
  const { ended, workers } = data;
  const GUTTER = 78, AXIS = 22, ROW = workers.length > 40 ? 16 : 24;
  const bars = workers.map(() => []);
  tasks.filter((t) => t.begun).forEach((t) => bars[t.worker].push(t));
  const chain = data.path.map((row) => tasks[row]);
  const rows = workers.length + 1;
  const all = Math.max(ended, 1);
  let view = { from: 0, to: all };
  let chosen = null;

  const canvas = element('canvas', { tabIndex: 0 });
  canvas.setAttribute('role', 'application');
  canvas.setAttribute('aria-label', 'Workers and their tasks in time. Arrow keys go from task to task, plus and minus zoom, 0 shows the whole run, c goes along the critical path.');
  const detail = element('div', { className: 'detail dim' }, 'Point at a bar, or choose one: by a click, or with the arrow keys. Drag to move, Ctrl and wheel or + and − to zoom, 0 to see all, c for the critical path.');
  detail.setAttribute('aria-live', 'polite');
  const tool = (label, title, act) => {
    const button = element('button', { type: 'button', title }, label);
    button.addEventListener('click', act);
    return button;
  };
  lanes.append(
    element('div', { className: 'tools' },
      tool('+', 'zoom in', () => zoom(0.5)),
      tool('−', 'zoom out', () => zoom(2)),
      tool('Whole run', 'show all of it', () => look(0, all)),
      tool('Next on the critical path', 'choose its next task', () => follow())),
    element('div', { className: 'frame' }, canvas), detail);

  // ---- where things are

  // Asking the canvas for it costs a layout: too much for every bar.
  let wide = 0;
  const width = () => Math.max(1, wide - GUTTER - 8);
  const x = (t) => GUTTER + (t - view.from) / (view.to - view.from) * width();
  const t = (px) => view.from + (px - GUTTER) / width() * (view.to - view.from);
  // The first bar of a worker that ends at this time or later.
  const first = (list, at) => {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle].until < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  // ---- drawing

  let colors = null;
  const style = () => {
    if (colors) return colors;
    const computed = getComputedStyle(document.documentElement);
    colors = {};
    for (const name of ['bg', 'text', 'dim', 'panel', 'line', 'critical', 'accent', 'failed', ...data.kinds.map(([k]) => k)]) {
      colors[name] = computed.getPropertyValue('--' + name).trim();
    }
    colors.font = getComputedStyle(document.body).fontFamily;
    return colors;
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { colors = null; draw(); });

  let asked = false;
  const draw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; paint(); });
  };

  const paint = () => {
    const c = style();
    const scale = devicePixelRatio || 1;
    wide = canvas.clientWidth;
    const [w, h] = [wide, AXIS + rows * ROW + 4];
    canvas.style.height = h + 'px';
    canvas.width = Math.round(w * scale);
    canvas.height = Math.round(h * scale);
    const g = canvas.getContext('2d');
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.fillStyle = c.panel;
    g.fillRect(0, 0, w, h);
    g.textBaseline = 'middle';
    axis(g, c, h);
    g.save();
    g.beginPath();
    g.rect(GUTTER, 0, w - GUTTER, h);
    g.clip();
    for (const [from, to, what] of data.run) {
      if (to >= view.from && from <= view.to) bar(g, c, x(from), x(to), x(to), 0, c.dim, what);
    }
    bars.forEach((list, i) => worker(g, c, list, i + 1));
    critical(g, c);
    if (chosen) outline(g, c, chosen);
    g.restore();
    g.fillStyle = c.dim;
    g.font = `11px ${c.font}`;
    ['the run', ...workers].forEach((name, i) => g.fillText(name, 8, AXIS + i * ROW + ROW / 2, GUTTER - 12));
  };

  const axis = (g, c, h) => {
    const about = (view.to - view.from) / Math.max(2, width() / 110);
    const power = 10 ** Math.floor(Math.log10(about));
    const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= about));
    g.font = `11px ${c.font}`;
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
      g.fillStyle = c.line;
      g.fillRect(Math.round(x(at)), AXIS - 4, 1, h);
      g.fillStyle = c.dim;
      const ms = at / 1000;
      const digits = (unit) => Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
      const label = view.to >= 1e6 && step >= 1e4 ? (ms / 1000).toFixed(digits(1e6)) + ' s' : ms.toFixed(digits(1e3)) + ' ms';
      if (x(at) + 3 + g.measureText(label).width <= wide) g.fillText(label, x(at) + 3, AXIS / 2);
    }
  };

  const bar = (g, c, from, worked, to, row, color, label, faded) => {
    const [y, high] = [AXIS + row * ROW + 2, ROW - 8];
    const seen = GUTTER - 2;
    from = Math.max(from, seen);
    g.globalAlpha = faded ? 0.15 : 1;
    g.fillStyle = color;
    // A hair between neighbours, where there is room for one.
    const gap = to - from > 4 ? 1 : 0;
    if (worked > from) g.fillRect(from, y, Math.max(0.8, worked - from - gap), high);
    if (to > worked + 1) {
      g.globalAlpha *= 0.35;
      g.fillRect(Math.max(worked, seen), y, to - Math.max(worked, seen) - gap, high);
    }
    g.globalAlpha = faded ? 0.3 : 1;
    if (worked - from > 44 && high > 9) {
      g.save();
      g.beginPath();
      g.rect(from, y, worked - from - 4, high);
      g.clip();
      g.fillStyle = c.bg;
      g.font = `11px ${c.font}`;
      g.fillText(label, from + 5, y + high / 2 + 0.5);
      g.restore();
    }
    g.globalAlpha = 1;
  };

  // Bars of less than a pixel share its column: the kind that had most of it gives the colour.
  const worker = (g, c, list, row) => {
    let column = null;
    let shares = {};
    const flush = () => {
      if (column === null) return;
      let color = 'none';
      for (const one in shares) if (!(shares[color] >= shares[one])) color = one;
      const faded = color === 'none';
      g.globalAlpha = faded ? 0.15 : 1;
      g.fillStyle = faded ? c.dim : c[color];
      g.fillRect(column, AXIS + row * ROW + 2, 1, ROW - 8);
      g.globalAlpha = 1;
      [column, shares] = [null, {}];
    };
    for (let i = first(list, view.from); i < list.length && list[i].start <= view.to; i++) {
      const task = list[i];
      const [from, to] = [x(task.start), x(task.until)];
      const has = find.has(task);
      if (to - from >= 1.5) {
        flush();
        bar(g, c, from, x(task.worked ?? ended), to, row, c[task.color], task.name, !has);
        continue;
      }
      const here = Math.floor(from);
      if (here !== column) flush();
      column = here;
      const color = has ? task.color : 'none';
      // A failure, and what is looked for, must not be hidden by its neighbours.
      const weight = task.state === 'failed' ? 1e12 : has && find.word ? 1e9 : task.until - task.start;
      shares[color] = (shares[color] || 0) + weight + 1;
    }
    flush();
  };

  const critical = (g, c) => {
    g.fillStyle = c.critical;
    let before = null;
    let painted = -1;
    // In the order of time: what is left of the view is skipped at once, but for the last of it.
    for (let i = Math.max(0, first(chain, view.from) - 1); i < chain.length && chain[i].start <= view.to; i++) {
      const task = chain[i];
      const [from, to] = [x(task.start), x(task.until)];
      const y = AXIS + (task.worker + 1) * ROW + ROW - 5;
      if (to >= GUTTER && from <= wide && to > painted) {
        g.fillRect(from, y, Math.max(1, to - from), 3);
        painted = before && before.worker === task.worker ? to : -1;
      }
      if (before && before.worker !== task.worker) {
        const other = AXIS + (before.worker + 1) * ROW + ROW - 5;
        g.fillRect(from, Math.min(y, other), 1, Math.abs(y - other) + 3);
        painted = -1;
      }
      before = task;
    }
  };

  const outline = (g, c, task) => {
    const [from, to] = [x(task.start), x(task.until)];
    g.strokeStyle = c.accent;
    g.lineWidth = 2;
    g.strokeRect(from - 1.5, AXIS + (task.worker + 1) * ROW + 0.5, Math.max(3, to - from + 2), ROW - 5);
  };

  // ---- moving

  const look = (from, to) => {
    const span = Math.min(all, Math.max(to - from, 20));
    from = Math.min(Math.max(0, from), all - span);
    view = { from, to: from + span };
    draw();
  };
  const zoom = (factor, at) => {
    const pivot = at ?? (chosen && chosen.until >= view.from && chosen.start <= view.to ? (chosen.start + chosen.until) / 2 : (view.from + view.to) / 2);
    look(pivot - (pivot - view.from) * factor, pivot + (view.to - pivot) * factor);
  };
  const choose = (task) => {
    chosen = task;
    if (!task) return;
    detail.classList.remove('dim');
    fill(detail, describe(task));
    const span = view.to - view.from;
    // So near that the bar is seen as one, and not cut off.
    const long = Math.max(task.until - task.start, 1);
    const wanted = long > span ? long * 1.2 : long < span / width() * 3 ? long / 12 * width() : span;
    const middle = (task.start + task.until) / 2;
    if (wanted !== span || task.start < view.from || task.until > view.to) look(middle - wanted / 2, middle + wanted / 2);
    draw();
  };
  const follow = () => {
    const list = data.path;
    const here = chosen ? list.indexOf(chosen.row) : -1;
    choose(tasks[list[(here + 1) % list.length]]);
  };
  timings.show = (task) => {
    choose(task);
    lanes.scrollIntoView({ block: 'start' });
    canvas.focus({ preventScroll: true });
  };

  const nearest = (list, at) => {
    if (!list.length) return null;
    const i = Math.min(first(list, at), list.length - 1);
    const away = (task) => Math.max(task.start - at, at - task.until, 0);
    return i > 0 && away(list[i - 1]) < away(list[i]) ? list[i - 1] : list[i];
  };
  // What is under a pointer: a task, or lines on the run itself.
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const [px, row] = [event.clientX - box.left, Math.floor((event.clientY - box.top - AXIS) / ROW)];
    const at = t(px);
    if (px < GUTTER || row < 0 || row >= rows) return {};
    if (row === 0) {
      const part = data.run.find(([from, to]) => from <= at && at <= to);
      return part ? { lines: [part[2], `${time(part[1] - part[0])}, from ${time(part[0])} to ${time(part[1])}, on the critical path`] } : {};
    }
    const task = nearest(bars[row - 1], at);
    const near = 3 / width() * (view.to - view.from);
    return task && task.start - near <= at && at <= task.until + near ? { task, lines: describe(task) } : {};
  };

  let drag = null;
  canvas.addEventListener('pointerdown', (event) => {
    drag = { x: event.clientX, from: view.from, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (drag && Math.abs(event.clientX - drag.x) > 3) drag.moved = true;
    if (!drag || !drag.moved) return point(event, under(event).lines);
    const span = view.to - view.from;
    const from = drag.from - (event.clientX - drag.x) / width() * span;
    point(event, null);
    look(from, from + span);
  });
  canvas.addEventListener('pointerup', (event) => {
    const { task } = under(event);
    if (drag && !drag.moved && task) choose(task);
    drag = null;
  });
  canvas.addEventListener('pointercancel', () => { drag = null; });
  canvas.addEventListener('pointerleave', () => point(null, null));
  canvas.addEventListener('wheel', (event) => {
    const span = view.to - view.from;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.004), t(event.clientX - canvas.getBoundingClientRect().left));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = (event.deltaX || event.deltaY) / width() * span;
      look(view.from + by, view.to + by);
    }
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const list = chosen ? bars[chosen.worker] : bars[0];
    const at = chosen ? list.indexOf(chosen) : -1;
    const side = (by) => {
      const row = (chosen ? chosen.worker : 0) + by;
      return bars[row] ? nearest(bars[row], chosen ? (chosen.start + chosen.until) / 2 : view.from) : chosen;
    };
    const act = {
      ArrowRight: () => choose(list[Math.min(at + 1, list.length - 1)]),
      ArrowLeft: () => choose(list[Math.max(at - 1, 0)]),
      ArrowDown: () => choose(side(1)),
      ArrowUp: () => choose(side(-1)),
      Home: () => choose(list[0]),
      End: () => choose(list[list.length - 1]),
      '+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2), 0: () => look(0, all),
      c: follow,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  listeners.push(draw);
  new ResizeObserver(draw).observe(lanes);
  draw();
})();
