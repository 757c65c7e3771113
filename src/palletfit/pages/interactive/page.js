"use strict";
(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const figure = data("figure");
  const details = data("details");
  const colourings = data("colourings");
  const plot = document.getElementById("plot");
  const panel = document.getElementById("panel");
  let pinned = null;

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
  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(value.toPrecision(digits)));
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return element("span", {}, `${Number(mantissa)}·10`, element("sup", {}, String(Number(exponent))));
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
      [`CLs, ${detail.other?.minimum} minimum`, detail.other?.CLs],
      ["upper limit on μ", detail.limits?.mu],
      [`upper limit on μ, ${detail.limits?.other?.minimum} minimum`, detail.limits?.other?.mu],
      ["upper limit, pb", detail.limits?.pb],
    ].filter(([, numbers]) => numbers);
    const names = ["observed", "expected −2σ", "−1σ", "median", "+1σ", "+2σ"];
    const rows = names.map((name, index) => [name, ...columns.map(([, x]) => number(x[index]))]);
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
                region, status, number(observed), number(expected),
              ]),
            ),
          ]
        : []),
      ...pulls(detail),
      ...impacts(detail),
    ];
    panel.replaceChildren(...parts);
  };

  const marked = (event) =>
    event.points.map((point) => point.customdata).find((name) => name !== undefined);

  const colour = (chosen) => {
    for (const [index, trace] of figure.data.entries()) {
      const scores = chosen?.scores[index];
      if (!String(trace.meta).startsWith("points_") || trace.meta === "points_failed") continue;
      const marker = scores
        ? {
            ...trace.marker,
            size: trace.marker.size + 3,
            color: scores,
            colorscale: chosen.scale,
            cmin: chosen.range[0],
            cmax: chosen.range[1],
            showscale: trace.meta === "points_ok",
            // Below the buttons of the plot.
            colorbar: { thickness: 12, len: 0.7, y: 0, yanchor: "bottom", tickvals: chosen.ticks, ticktext: chosen.words, outlinewidth: 0 },
            line: trace.marker.line ?? { color: "#444", width: 0.7 },
          }
        : trace.marker;
      Plotly.restyle(plot, { marker: [marker] }, [index]);
    }
  };

  const buttons = [null, ...colourings].map((chosen) => {
    const button = element("button", { type: "button" }, chosen ? chosen.title : "none");
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      colour(chosen);
    });
    button.setAttribute("aria-pressed", String(chosen === null));
    return button;
  });
  if (colourings.length) {
    document.getElementById("colouring").append("Colour of points: ", ...buttons);
  }

  panel.append(element("p", { class: "pinned" }, "Hover over a signal point, or click it."));
  const options = {
    displaylogo: false,
    responsive: true,
    displayModeBar: true,
    // Plotly's own button would send the figure to a service.
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
  };
  Plotly.newPlot(plot, structuredClone(figure.data), figure.layout, options).then(() => {
    plot.on("plotly_hover", (event) => {
      const name = marked(event);
      if (name !== undefined && pinned === null) show(name);
    });
    plot.on("plotly_click", (event) => {
      const name = marked(event);
      if (name === undefined) return;
      pinned = pinned === name ? null : name;
      show(name);
    });
    document.body.dataset.ready = "yes";
  });
})();
