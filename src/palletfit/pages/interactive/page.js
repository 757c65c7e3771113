"use strict";
(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const figure = data("figure");
  const details = data("details");
  const colourings = data("colourings");
  const border = data("border");
  const dark = data("dark");
  const plot = document.getElementById("plot");
  const panel = document.getElementById("panel");
  let pinned = null;  // the point that is kept
  let current = null;  // the point that is shown
  let drawn = false;

  // All words come in as text: names may hold anything.
  const element = (tag, attributes = {}, ...children) => {
    const space = ["svg", "rect", "line", "circle", "text"].includes(tag);
    const made = space
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  // As text that a program reads: 2.56e-6, where String() writes 0.00000256.
  const plain = (value, digits) => {
    const size = Math.abs(value);
    if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(value.toPrecision(digits)));
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`;
  };
  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    const [mantissa, exponent] = plain(value, digits).split("e");
    if (exponent === undefined) return mantissa;
    return element("span", {}, `${mantissa}·10`, element("sup", {}, exponent));
  };
  const table = (header, rows) =>
    element(
      "table",
      {},
      element("tr", {}, ...header.map((cell) => element("th", {}, cell))),
      ...rows.map((row) =>
        element(
          "tr",
          {},
          ...row.map((cell) => (cell instanceof HTMLTableCellElement ? cell : element("td", {}, cell))),
        ),
      ),
    );

  const values = (detail) => {
    const columns = [
      ["CLs", detail.CLs],
      ["CLs, forecast", detail.forecast],
      [`CLs, ${detail.other?.minimum} minimum`, detail.other?.CLs],
      ["upper limit on μ", detail.limits?.mu],
      [`upper limit on μ, ${detail.limits?.other?.minimum} minimum`, detail.limits?.other?.mu],
      ["upper limit, pb", detail.limits?.pb],
    ].filter(([, numbers]) => numbers);
    const names = ["observed", "expected −2σ", "−1σ", "median", "+1σ", "+2σ"];
    const rows = names
      .map((name, index) => [name, ...columns.map(([, x]) => number(x[index]))])
      .filter((row, index) => index > 0 || !detail.blinded);
    return columns.length ? [table(["", ...columns.map(([name]) => name)], rows)] : [];
  };

  const otherMinimum = (detail) => {
    if (!detail.other) return [];
    const { minimum, mu_hat, fits } = detail.other;
    return [
      element("h3", {}, `The ${minimum} minimum, which does not count`),
      element("p", {}, "best-fit μ there = ", number(mu_hat)),
      ...fits.flatMap(([fit, above, parameters]) => [
        element("p", {}, `${fit} fit`, ...(above === null ? [] : [": 2 NLL differs by ", number(above)])),
        table(
          ["parameter", "counted", minimum],
          parameters.map(([name, counted, other]) => [
            element("td", { class: "words" }, name), number(counted), number(other),
          ]),
        ),
      ]),
    ];
  };

  const evidence = (detail) => {
    if (!detail.fits) return [];
    const rows = detail.fits.map((fit) => [
      fit.name,
      element("td", fit.trusted ? {} : { class: "doubt" }, fit.trusted ? "yes" : "no"),
      number(fit.mu),
      number(fit.edm, 2),
      fit.tried ? `${fit.agreed} of ${fit.tried}` : String(fit.agreed),
      number(fit.spread, 2),
    ]);
    const parts = [
      element("h3", {}, "Evidence of the fits"),
      table(["fit", "trusted", "μ", "edm", "starts agree", "2 NLL spread"], rows),
      ...detail.fits
        .filter((fit) => !fit.trusted)
        .map((fit) => element("p", { class: "doubt" }, `${fit.name}: ${fit.reason}`)),
    ];
    const tried = detail.fits.filter((fit) => fit.attempts && fit.attempts.length);
    if (tried.length) {
      parts.push(
        element(
          "details",
          {},
          element("summary", {}, "Reasons and single attempts"),
          ...tried.flatMap((fit) => [
            element("p", {}, `${fit.name}: ${fit.reason}`),
            table(
              ["attempt", "2 NLL above", "edm", "doubts"],
              fit.attempts.map(([where, above, edm, doubts]) => [
                where,
                above !== null && Math.abs(above) < 1e-9 ? "0" : number(above, 2),
                number(edm, 2),
                element("td", { class: "words" }, doubts),
              ]),
            ),
          ]),
        ),
      );
    }
    return parts;
  };

  const pulls = (detail) => {
    if (!detail.pulls) return [];
    const [width, line, left] = [420, 16, 210];
    const most = Math.max(2.5, ...detail.pulls.map(([, pull, error]) => Math.abs(pull) + (error ?? 0)));
    const place = (x) => left + ((x + most) / (2 * most)) * (width - left - 8);
    const height = line * detail.pulls.length + 18;
    const picture = element("svg", { class: "pulls", viewBox: `0 0 ${width} ${height}` });
    const area = (name, size) =>
      element("rect", {
        class: name, x: place(-size), width: place(size) - place(-size), y: 0, height: height - 18,
      });
    picture.append(area("two", 2), area("one", 1));
    picture.append(element("line", { class: "zero", x1: place(0), x2: place(0), y1: 0, y2: height - 18 }));
    detail.pulls.forEach(([name, pull, error], index) => {
      const y = line * (index + 0.5);
      const shown = name.length > 32 ? `${name.slice(0, 31)}…` : name;
      picture.append(
        element("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, shown),
        element("line", {
          class: "bar", x1: place(pull - (error ?? 0)), x2: place(pull + (error ?? 0)), y1: y, y2: y,
        }),
        element("circle", { cx: place(pull), cy: y, r: 3 }),
      );
    });
    for (const tick of [-2, -1, 0, 1, 2]) {
      picture.append(
        element("text", { x: place(tick), y: height - 4, "text-anchor": "middle" }, String(tick)),
      );
    }
    return [element("h3", {}, "Largest pulls of the best fit"), picture];
  };

  const impacts = (detail) =>
    detail.impacts
      ? [
          element("h3", {}, "Largest impacts on μ"),
          table(
            ["parameter", "up", "down"],
            detail.impacts.map(([name, up, down]) => [name, number(up), number(down)]),
          ),
        ]
      : [];

  const show = (name) => {
    const detail = details[name];
    if (!detail) return;
    const where = detail.labels.map(([label, value]) => `${label} = ${value}`).join(", ");
    const parts = [
      element("h2", {}, name),
      element(
        "p",
        {},
        element("span", { class: `status ${detail.status}` }, detail.status),
        ` ${where}; region ${detail.region} `,
        element("span", { class: "pinned" }, name === pinned ? "(kept: click it again to free)" : ""),
      ),
      ...(detail.problem ? [element("p", { class: "problem" }, detail.problem)] : []),
      ...values(detail),
      ...(detail.mu_hat && detail.mu_hat[0] !== null
        ? [element("p", {}, "best-fit μ = ", number(detail.mu_hat[0]), " ± ", number(detail.mu_hat[1]))]
        : []),
      ...(detail.limits && detail.limits.cross_section
        ? [element("p", {}, "cross section of the theory: ", number(detail.limits.cross_section), " pb")]
        : []),
      ...(detail.remarks ?? []).map((remark) => element("p", {}, remark)),
      ...otherMinimum(detail),
      ...evidence(detail),
      ...(detail.regions
        ? [
            element("h3", {}, "All regions"),
            table(
              ["region", "status", "CLs observed", "expected"],
              detail.regions.map(([region, status, observed, expected]) => [
                region, status, detail.blinded ? "blinded" : number(observed), number(expected),
              ]),
            ),
          ]
        : []),
      ...pulls(detail),
      ...impacts(detail),
    ];
    panel.replaceChildren(...parts);
  };

  const brief = document.getElementById("brief");
  const narrow = matchMedia("(max-width: 48rem)");
  const night = matchMedia("screen and (prefers-color-scheme: dark)");
  const names = Object.keys(details);

  // --- the chosen point ---------------------------------------------------------------------

  // Positions of points by name, from the traces that hold them.
  const places = new Map();
  for (const trace of figure.data) {
    if (!String(trace.meta).startsWith("points_")) continue;
    trace.customdata.forEach((name, index) => places.set(name, [trace.x[index], trace.y[index]]));
  }
  const ring = (name, dash) => {
    const [x, y] = places.get(name);
    const line = themed({ color: "#222", width: 2, dash });
    return {
      type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y,
      x0: -10, x1: 10, y0: -10, y1: 10, line, layer: "above",
    };
  };
  // A ring around the kept point, and a dotted one where the keyboard is.
  const rings = () => [
    ...(places.has(pinned) ? [ring(pinned, "solid")] : []),
    ...(current !== pinned && places.has(current) ? [ring(current, "dot")] : []),
  ];
  const mark = () => {
    if (drawn) Plotly.relayout(plot, { shapes: rings() });
    for (const row of document.querySelectorAll("#rows tbody tr")) {
      const kept = row.dataset.name === pinned;
      row.classList.toggle("kept", kept);
      row.querySelector("button").setAttribute("aria-pressed", String(kept));
    }
  };
  const say = (name) => {
    const detail = details[name];
    const text = (value) => (value === null ? "none" : plain(value, 3));
    const parts = [name];
    for (const [title, values] of [["CLs", detail.CLs], ["limit on μ", detail.limits?.mu]]) {
      const observed = detail.blinded ? "" : `${values && text(values[0])} observed, `;
      if (values) parts.push(`${title} ${observed}${text(values[3])} expected`);
    }
    if (detail.status !== "ok") parts.push(detail.status);
    brief.textContent = parts.join("; ") + (name === pinned ? " (kept)" : "");
  };
  const look = (name) => {
    if (!details[name]) return;
    current = name;
    show(name);
    say(name);
  };
  const keep = (name) => {
    pinned = pinned === name ? null : name;
    look(name);
    mark();
  };

  // The nearest point in a direction counts; what lies aside of it is twice as far.
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const next = ([right, down]) => {
    const { xaxis, yaxis } = plot._fullLayout;
    const pixel = ([x, y]) => [xaxis.d2p(x), yaxis.d2p(y)];
    const start = places.get(current);
    if (start === undefined) return [...places.keys()][0];
    const [x, y] = pixel(start);
    let [best, least] = [current, Infinity];
    for (const [name, place] of places) {
      const [dx, dy] = [pixel(place)[0] - x, pixel(place)[1] - y];
      const along = dx * right + dy * down;
      const far = along + 2 * Math.abs(dx * down + dy * right);
      if (along > 0.5 && far < least) [best, least] = [name, far];
    }
    return best;
  };
  plot.addEventListener("keydown", (event) => {
    if (!drawn || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      look(next(steps[event.key]));
      mark();
    } else if (event.key === "Enter" && current !== null) {
      keep(current);
    } else if (event.key === "Escape" && pinned !== null) {
      keep(pinned);
    } else {
      return;
    }
    event.preventDefault();
  });

  // --- the table ----------------------------------------------------------------------------

  const sigmas = ["exp_minus2", "exp_minus1", "exp_0", "exp_plus1", "exp_plus2"];
  const labels = details[names[0]]?.labels?.map(([label]) => label) ?? [];
  const list = (name, title, values) => [
    { name: `${name}_obs`, title: `${title} observed`, of: (detail) => values(detail)?.[0] },
    ...sigmas.map((sigma, index) => ({
      name: `${name}_${sigma}`,
      title: sigma === "exp_0" ? `${title} expected` : null,
      of: (detail) => values(detail)?.[index + 1],
    })),
  ];
  const severalRegions = new Set(names.map((name) => details[name].region)).size > 1;
  // Columns of the CSV; the table has those with a title.
  const columns = [
    { name: "patch", title: "point", of: (detail, name) => name },
    ...labels.map((label, index) => ({
      name: label, title: label, of: (detail) => detail.labels[index][1],
    })),
    { name: "region", title: severalRegions ? "region" : null, of: (detail) => detail.region },
    { name: "status", title: "status", of: (detail) => detail.status },
    ...list("CLs", "CLs", (detail) => detail.CLs),
    ...list("CLs_forecast", "CLs, forecast,", (detail) => detail.forecast),
    ...list("mu", "limit", (detail) => detail.limits?.mu),
    ...list("upper_limit_pb", "limit, pb,", (detail) => detail.limits?.pb),
    { name: "mu_hat", title: "best-fit μ", of: (detail) => detail.mu_hat?.[0] },
    { name: "remark", title: null, of: (detail) =>
      [detail.problem, ...(detail.remarks ?? [])].filter(Boolean).join("; ") || null },
  ].filter(({ of }) => names.some((name) => (of(details[name], name) ?? null) !== null));
  const cells = new Map(
    names.map((name) => [name, columns.map(({ of }) => of(details[name], name) ?? null)]),
  );
  const most = 500;
  const sorting = { column: null, down: false };
  const filter = document.getElementById("filter");
  const csv = document.getElementById("csv");
  const count = document.getElementById("count");

  // A condition such as `m1>500`, or a word that the row has.
  const condition = (word) => {
    const parts = /^(.+?)(<=|>=|<|>|=)(.+)$/.exec(word);
    const key = parts?.[1].toLowerCase();
    const index = columns.findIndex(({ name }) => name.toLowerCase() === key);
    if (parts === null || index < 0 || Number.isNaN(Number(parts[3]))) {
      return (row) => row.some((cell) => String(cell ?? "").toLowerCase().includes(word));
    }
    const limit = Number(parts[3]);
    const compare = {
      "<": (x) => x < limit, ">": (x) => x > limit, "=": (x) => x === limit,
      "<=": (x) => x <= limit, ">=": (x) => x >= limit,
    }[parts[2]];
    return (row) => typeof row[index] === "number" && compare(row[index]);
  };
  const chosenRows = () => {
    const conditions = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
    const rows = [...cells].filter(([, row]) => conditions.every((holds) => holds(row)));
    const { column, down } = sorting;
    if (column === null) return rows;
    const order = ([, one], [, two]) => {
      const [a, b] = [one[column], two[column]];
      if (a === null || b === null) return (a === null) - (b === null);  // the last in any order
      const less = typeof a === "number" && typeof b === "number"
        ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      return down ? -less : less;
    };
    return rows.sort(order);
  };
  const header = ({ title }, index) => {
    const button = element("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      sorting.down = sorting.column === index && !sorting.down;
      sorting.column = index;
      fill();
      document.querySelectorAll("#rows th")[shownColumns.indexOf(index)].firstChild.focus();
    });
    const state = sorting.column !== index ? "none" : sorting.down ? "descending" : "ascending";
    return element("th", { scope: "col", "aria-sort": state }, button);
  };
  const shownColumns = columns.flatMap(({ title }, index) => (title === null ? [] : [index]));
  const fill = () => {
    const rows = chosenRows();
    const body = rows.slice(0, most).map(([name, row]) => {
      const button = element("button", { type: "button", "aria-pressed": "false" }, name);
      button.addEventListener("click", () => {
        keep(name);
        panel.scrollIntoView({ block: "nearest" });
      });
      const line = element("tr", {}, ...shownColumns.map((index) => {
        if (index === 0) return element("td", {}, button);
        const value = row[index];
        if (typeof value === "string") return element("td", { class: "words" }, value);
        // Without a superscript, so that marked cells can be pasted as numbers.
        return element("td", {}, value === null ? "–" : plain(value, 4));
      }));
      line.dataset.name = name;
      return line;
    });
    document.getElementById("rows").replaceChildren(
      element(
        "table", {},
        element("thead", {}, element("tr", {}, ...shownColumns.map((i) => header(columns[i], i)))),
        element("tbody", {}, ...body),
      ),
    );
    const of = rows.length === names.length ? "" : ` of ${names.length}`;
    count.textContent = `${rows.length}${of} points` +
      (rows.length > most ? `; the table shows ${most}, the CSV has all` : "");
    csv.hidden = true;
    mark();
  };
  const cell = (value) => {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    // A name that begins like a formula must not be one in a spreadsheet.
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  document.getElementById("copy").addEventListener("click", () => {
    const rows = [columns.map(({ name }) => name), ...chosenRows().map(([, row]) => row)];
    csv.value = rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
    csv.hidden = false;
    csv.focus();
    csv.select();
    // Unlike the clipboard of newer pages this is allowed everywhere, in files and reports, too.
    const copied = document.execCommand("copy");
    count.textContent = copied ? `${rows.length - 1} points copied` : "press Ctrl+C to copy";
  });
  filter.addEventListener("input", fill);

  // --- the plot -----------------------------------------------------------------------------

  // Colours of dark pages; only values of colours are changed, and not names that look like one.
  const themed = (value, key = "") => {
    if (!night.matches) return value;
    if (typeof value === "string") return /color$/i.test(key) ? dark[value] ?? value : value;
    if (Array.isArray(value)) return value.map((inner) => themed(inner, key));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, themed(inner, name)]),
    );
  };
  const isPoints = (trace) => String(trace.meta).startsWith("points_");
  let colouring = null;
  const coloured = (trace, index) => {
    const scores = colouring?.scores[index];
    if (!isPoints(trace) || !scores) return themed(trace);
    const marker = {
      ...themed(trace.marker),
      size: trace.marker.size + Math.min(3, trace.marker.size / 2),
      color: scores,
      colorscale: colouring.scale,
      cmin: colouring.range[0],
      cmax: colouring.range[1],
      showscale: trace.meta === "points_ok",
      // Below the buttons of the plot.
      colorbar: {
        thickness: 12, len: 0.7, y: 0, yanchor: "bottom", outlinewidth: 0,
        tickvals: colouring.ticks, ticktext: colouring.words,
      },
      line: themed(trace.marker.line ?? { color: "#333", width: 0.7 }),
    };
    return { ...themed(trace), marker };
  };
  // On a phone the text next to a finger would hide the plot, and is below it anyway.
  const traces = () =>
    structuredClone(figure.data).map((trace, index) => ({
      ...coloured(trace, index),
      ...(isPoints(trace) && narrow.matches ? { hoverinfo: "none" } : {}),
    }));
  const layout = () => {
    const entries = figure.data.filter(({ showlegend }) => showlegend !== false).length;
    // The legend of a phone has one entry a line.
    plot.style.height = narrow.matches ? `${370 + 19 * entries}px` : "";
    const whole = themed(structuredClone(figure.layout));
    whole.shapes = rings();
    if (!narrow.matches) return whole;
    const axis = { nticks: 5, title: { font: { size: 12 }, standoff: 6 } };
    for (const name of ["xaxis", "yaxis"]) {
      whole[name] = { ...whole[name], ...axis, title: { ...whole[name].title, ...axis.title } };
    }
    return {
      ...whole,
      margin: { l: 48, r: 10, t: 10, b: 46 },
      font: { ...whole.font, size: 11 },
      // A finger that moves scrolls the page.
      dragmode: false,
    };
  };
  const options = () => ({
    displaylogo: false,
    responsive: true,
    displayModeBar: !narrow.matches,
    // Twice goes back to the range of the points; a tap counts as two clicks where it may scroll.
    doubleClick: narrow.matches ? false : "reset",
    // Plotly's own button would send the figure to a service.
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
  });
  const redraw = () => {
    if (drawn) Plotly.react(plot, traces(), layout(), options());
  };

  // --- the label along the forbidden part -----------------------------------------------------

  const sizes = [12, 11, 10, 9];
  // Visible border in pixels of the plot, in steps of about one.
  const visibleBorder = ({ xaxis, yaxis }) => {
    const line = [];
    for (let index = 1; index < border.length; index += 1) {
      const [from, to] = [border[index - 1], border[index]];
      const [x0, y0, x1, y1] = [xaxis.d2p(from[0]), yaxis.d2p(from[1]), xaxis.d2p(to[0]), yaxis.d2p(to[1])];
      const count = Math.min(2000, Math.ceil(Math.hypot(x1 - x0, y1 - y0)) || 1);
      for (let step = 0; step < count; step += 1) {
        const [x, y] = [x0 + ((x1 - x0) * step) / count, y0 + ((y1 - y0) * step) / count];
        if (x > 0 && y > 0 && x < xaxis._length && y < yaxis._length) line.push([x, y]);
      }
    }
    return line;
  };
  const alongBorder = (line, width, height, full) => {
    const half = Math.ceil(width / 2) + 2;
    for (const part of [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8]) {
      const middle = Math.round(line.length * part);
      const [from, to] = [line[middle - half], line[middle + half]];
      if (from === undefined || to === undefined) continue;
      const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
      const length = Math.hypot(dx, dy) || 1;
      const [right, down] = [dx / length, dy / length];
      const away = height / 2 + 5;
      const centre = [(from[0] + to[0]) / 2 + down * away, (from[1] + to[1]) / 2 - right * away];
      const [w, h] = [width / 2, height / 2];
      const inside = [[-w, -h], [-w, h], [w, -h], [w, h]].every(([a, b]) => {
        const [x, y] = [centre[0] + a * right - b * down, centre[1] + a * down + b * right];
        return x >= 0 && y >= 0 && x <= full.xaxis._length && y <= full.yaxis._length;
      });
      if (inside) return { centre, angle: (Math.atan2(down, right) * 180) / Math.PI };
    }
    return null;
  };
  let labelled = "";
  let label = null;
  const putLabel = () => {
    const index = (figure.layout.annotations ?? []).findIndex(({ name }) => name === "forbidden");
    if (index < 0 || border.length < 2) return;
    const text = plot.querySelector(`.annotation[data-index="${index}"] .annotation-text`);
    if (text !== null) {
      const box = text.getBBox();
      const size = plot.layout.annotations[index].font.size;
      label = [box.width / size, box.height / size];
    }
    if (label === null) return;
    const full = plot._fullLayout;
    const line = visibleBorder(full);
    let change = { visible: false };
    for (const size of sizes) {
      const spot = alongBorder(line, label[0] * size + 4, label[1] * size + 4, full);
      if (spot === null) continue;
      change = {
        visible: true, "font.size": size, textangle: spot.angle,
        x: full.xaxis.p2d(spot.centre[0]), y: full.yaxis.p2d(spot.centre[1]),
      };
      break;
    }
    const seen = JSON.stringify([change, full.width, full.height]);
    if (seen === labelled) return;
    labelled = seen;
    Plotly.relayout(plot, Object.fromEntries(
      Object.entries(change).map(([key, value]) => [`annotations[${index}].${key}`, value]),
    ));
  };

  // --- together -------------------------------------------------------------------------------

  const marked = (event) =>
    event.points.map((point) => point.customdata).find((name) => name !== undefined);
  const buttons = [null, ...colourings].map((chosen) => {
    const button = element("button", { type: "button" }, chosen ? chosen.title : "none");
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      colouring = chosen;
      redraw();
    });
    button.setAttribute("aria-pressed", String(chosen === null));
    return button;
  });
  if (colourings.length) {
    document.getElementById("colouring").append("Colour of points: ", ...buttons);
  }
  panel.append(element("p", { class: "pinned" }, "Hover over a signal point, or click it."));
  fill();

  const unpack = async () => {
    const packed = atob(document.getElementById("library").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  let clicked = {};
  const begin = async () => {
    await unpack();
    await Plotly.newPlot(plot, traces(), layout(), options());
    drawn = true;
    plot.on("plotly_hover", (event) => {
      const name = marked(event);
      if (name !== undefined && pinned === null) look(name);
    });
    plot.on("plotly_click", (event) => {
      const name = marked(event);
      const again = name === clicked.name && event.event?.timeStamp - clicked.at < 400;
      if (name !== undefined && !again) keep(name);
      clicked = { name, at: event.event?.timeStamp };
    });
    plot.on("plotly_afterplot", putLabel);
    putLabel();
    for (const media of [narrow, night]) media.addEventListener("change", redraw);
    document.body.dataset.ready = "yes";
  };
  begin().catch((error) => {
    plot.textContent = `This browser cannot draw the plot (${error}). The table has all points.`;
  });
})();
