"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const touch = matchMedia("(pointer: coarse)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  // --- Plots: drawn when they come near the window, in the page's own colours ---

  function colours() {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    return { ink: read("ink"), soft: read("soft"), grid: read("grid"), rule: read("rule"), paper: read("paper"), sans: read("sans"), retrain: read("retrain") };
  }

  function dressed(layout) {
    const c = colours();
    const axis = { gridcolor: c.grid, linecolor: c.rule, zerolinecolor: c.grid, tickcolor: c.rule, tickfont: { color: c.soft }, automargin: true };
    const themed = {
      ...layout,
      autosize: !printing,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: c.sans, size: 13, color: c.ink },
      margin: { l: 10, r: 14, t: 30, b: 10, ...layout.margin },
      hoverlabel: { bgcolor: c.paper, bordercolor: c.rule, font: { family: c.sans, color: c.ink } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: c.soft, activecolor: c.ink },
      dragmode: touch ? false : "zoom",
    };
    for (const name of ["xaxis", "yaxis"]) {
      themed[name] = { ...axis, ...layout[name] };
      themed[name].title = { font: { size: 13, color: c.soft }, standoff: 12, ...themed[name].title };
    }
    return themed;
  }

  // Ink and retrain's blue need more light on a dark page; a matrix starts from the page's colour.
  function coloured(figure) {
    const c = colours();
    const own = JSON.parse(JSON.stringify(figure).replaceAll("#0072B2", c.retrain).replaceAll("#1B1F24", c.ink));
    own.data.filter((trace) => trace.type === "heatmap").forEach((trace) => { trace.colorscale = [[0, c.paper], [1, "#0072b2"]]; });
    return own;
  }

  function visible(traces, choice) {
    if (choice === null) return traces;
    return traces.map((trace) => (trace.meta ? { ...trace, visible: trace.meta === choice } : trace));
  }

  function choiceOf(plot) {
    const select = plot.dataset.group && document.querySelector(`[data-chooses="${plot.dataset.group}"]`);
    return select ? select.value : null;
  }

  function draw(plot) {
    const figure = coloured(figures[plot.dataset.figure]);
    if (printing) figure.layout.width = plot.clientWidth; // paper cannot be measured later
    plot.dataset.drawn = "yes";
    Plotly.react(plot, visible(figure.data, choiceOf(plot)), dressed(figure.layout), {
      responsive: true,
      displaylogo: false,
      displayModeBar: touch ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
      toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
    });
  }

  // What is folded away cannot be measured: it is drawn anew when it is next seen.
  const folded = (plot) => plot.closest("details:not([open])");
  function redraw() {
    for (const plot of plots.filter((plot) => plot.dataset.drawn)) {
      if (folded(plot)) delete plot.dataset.drawn;
      else draw(plot);
    }
  }

  for (const plot of plots) plot.style.minHeight = `${figures[plot.dataset.figure].layout.height}px`;
  const watch = new IntersectionObserver(
    (entries) => entries.filter((e) => e.isIntersecting && !e.target.dataset.drawn).forEach((e) => draw(e.target)),
    { rootMargin: "600px" },
  );
  plots.forEach((plot) => watch.observe(plot));

  // --- The method that is looked into ---

  for (const select of document.querySelectorAll("[data-chooses]")) {
    const group = select.dataset.chooses;
    const update = () => {
      for (const key of document.querySelectorAll(`[data-key="${group}"], [data-name="${group}"]`)) key.textContent = select.value;
      document.querySelector(`[data-key="${group}"]`)?.style.setProperty("--c", select.selectedOptions[0].dataset.colour);
      for (const part of document.querySelectorAll(`[data-part="${group}"]`)) part.hidden = part.dataset.when !== select.value;
      plots.filter((plot) => plot.dataset.group === group && plot.dataset.drawn).forEach(draw);
    };
    select.addEventListener("change", update);
    update();
  }

  // --- Light and dark ---

  const button = document.getElementById("theme");
  const remember = (theme) => { try { localStorage.setItem("oblivio-theme", theme); } catch { /* a file may have no storage */ } };
  const recall = () => { try { return localStorage.getItem("oblivio-theme"); } catch { return null; } };
  const current = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const other = () => (current() === "dark" ? "light" : "dark");
  const name = () => {
    button.textContent = other() === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Switch to ${other()} colours`);
  };
  if (["light", "dark"].includes(recall())) root.dataset.theme = recall();
  name();
  button.addEventListener("click", () => {
    root.dataset.theme = other();
    remember(root.dataset.theme);
    name();
    redraw();
  });
  dark.addEventListener("change", () => { name(); redraw(); });

  // --- Records behind a number ---

  let chosen; // several numbers may lead to one panel
  document.addEventListener("click", (event) => { chosen = event.target.closest?.(".number") ?? chosen; }, true);
  document.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open" || !event.target.matches(".sources")) return;
    const panel = event.target;
    const from = chosen.getBoundingClientRect();
    requestAnimationFrame(() => {
      const gap = 8;
      const below = from.bottom + gap + panel.offsetHeight < innerHeight;
      const top = below ? from.bottom + gap : Math.max(gap, from.top - gap - panel.offsetHeight);
      panel.style.top = `${top}px`;
      panel.style.left = `${Math.max(gap, Math.min(from.right - panel.offsetWidth, innerWidth - panel.offsetWidth - gap))}px`;
    });
  }, true);

  function reveal() {
    const target = location.hash.startsWith("#record-") && document.getElementById(location.hash.slice(1));
    if (!target) return;
    document.querySelectorAll(".sources:popover-open").forEach((panel) => panel.hidePopover());
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.('a[href^="#record-"]')) setTimeout(reveal);
  });
  reveal();

  // --- Paper ---

  let shut = [];
  let theme;
  addEventListener("beforeprint", () => {
    if (printing) return;
    printing = true;
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    root.classList.add("printing");
    shut = [...document.querySelectorAll("details:not(.record):not(.comparison):not([open])")];
    shut.forEach((box) => { box.open = true; });
    plots.filter((plot) => !folded(plot)).forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    root.classList.remove("printing");
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    shut.forEach((box) => { box.open = false; });
    redraw();
  });
})();
