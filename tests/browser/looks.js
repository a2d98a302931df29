const BOXES = ".cm-scroller, .jp-RenderedHTMLCommon, .jp-OutputArea-output, pre, .widget-label, .jupyter-button";

// What the tests ask a page of JupyterLab. `jupyterapp` is there by `jupyter lab --expose-app-in-browser`.
window.looks = {
  panel: () => jupyterapp.shell.currentWidget,

  opened: (path) => {
    const { context, sessionContext } = looks.panel() ?? {};
    return context?.path === path && context.isReady && sessionContext.session?.kernel?.status === "idle";
  },

  // Of each code cell: its id, its prompt's number, whether it runs or waits, the texts and kinds of its outputs.
  cells: () =>
    looks.panel().content.widgets.filter((cell) => cell.model.type === "code").map(({ model, promptNode }) => ({
      id: model.id,
      number: model.executionCount,
      busy: model.executionState === "running" || promptNode?.textContent.includes("*"),
      text: model.outputs.toJSON().map((output) => [output.text ?? []].flat().join("")).join(""),
      kinds: model.outputs.toJSON().flatMap((output) => Object.keys(output.data ?? {})),
      error: model.outputs.toJSON().find((output) => output.output_type === "error")?.evalue ?? null,
    })),

  cell: (id) => looks.cells().find((cell) => cell.id === id),

  // Nothing runs, and nothing waits to be run.
  rests: () => looks.panel().sessionContext.session.kernel.status === "idle" && !looks.cells().some((cell) => cell.busy),

  outer: () => looks.panel().content.node.querySelector(".jp-WindowedPanel-outer") ?? looks.panel().content.node,

  height: () => {
    looks.outer().scrollTop = 0;
    return looks.outer().scrollHeight;
  },

  select: (id) => {
    const notebook = looks.panel().content;
    notebook.activeCellIndex = notebook.widgets.findIndex((cell) => cell.model.id === id);
    notebook.mode = "command";
    notebook.activate();
    return notebook.scrollToItem(notebook.activeCellIndex, "center");
  },

  // What is cut, and what has to be scrolled sideways to be read: sentences with the cell's id.
  tooWide: () => {
    const found = { cut: [], scrolled: [] };
    for (const cell of looks.panel().content.widgets) {
      const say = (kind, what) => found[kind].push(`${cell.model.id}: ${what}`);
      for (const box of cell.node.querySelectorAll(BOXES)) {
        const beyond = box.scrollWidth - box.clientWidth;
        if (beyond < 2 || !box.clientWidth) continue;
        const scrolls = ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
        say(scrolls ? "scrolled" : "cut", `${box.className || box.tagName} hides ${beyond} px`);
      }
    }
    // JupyterLab's own: the first line of a folded output is never cut, and makes a narrow page wider.
    const folded = innerWidth < 600 ? [...document.querySelectorAll(".jp-OutputPlaceholder")] : [];
    folded.forEach((element) => (element.style.display = "none"));
    const outer = looks.outer();
    const beyond = outer.scrollWidth - outer.clientWidth;
    if (beyond > 1) found.cut.push(`the page itself hides ${beyond} px, ${looks.widest(outer)}`);
    folded.forEach((element) => (element.style.display = ""));
    return found;
  },

  // Where the text stands that makes the page wider than its window.
  widest: (outer) => {
    const right = (element) => element.getBoundingClientRect().right;
    const shown = [...outer.querySelectorAll("*")].filter((element) => !element.closest(BOXES));
    const farthest = shown.reduce((a, b) => (right(b) >= right(a) ? b : a));
    return `${farthest.className} of ${farthest.closest(".jp-Cell")?.textContent.slice(0, 80)}`;
  },

  // Put all cells into the page, also those that nobody has scrolled to.
  attachAll: () => {
    const notebook = looks.panel().content;
    notebook.notebookConfig = { ...notebook.notebookConfig, windowingMode: "none" };
    notebook.widgets.forEach((cell, index) => {
      if (!cell.isPlaceholder()) return;
      cell.node.dataset.windowedListIndex = index; // so JupyterLab does in its mode "defer"; in "none" it forgets these
      notebook.layout.insertWidget(index, cell);
    });
  },
  allAttached: () => looks.panel().content.widgets.every((cell) => !cell.isPlaceholder()),

  // Texts whose contrast with their paper is below `least` (WCAG 2): sentences with the cell's id.
  faint: (least) => {
    const parse = (colour) => (colour.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    const over = ([r, g, b, a = 1], under) => [r, g, b].map((value, i) => value * a + under[i] * (1 - a));
    const paper = (element) => {
      if (!element) return [255, 255, 255];
      const colour = parse(getComputedStyle(element).backgroundColor);
      return (colour[3] ?? 1) === 1 ? colour : over(colour, paper(element.parentElement));
    };
    const light = (colour) => {
      const [r, g, b] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = new Set();
    for (const cell of looks.panel().content.widgets) {
      const texts = document.createTreeWalker(cell.node, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const read = element.closest(".jp-RenderedHTMLCommon, .jp-OutputArea-output") && texts.currentNode.data.trim();
        if (!read || !element.getClientRects().length) continue;
        const below = paper(element);
        const [dark, bright] = [light(over(parse(getComputedStyle(element).color), below)), light(below)].sort((a, b) => a - b);
        const contrast = (bright + 0.05) / (dark + 0.05);
        if (contrast < least) found.add(`${cell.model.id}: ${contrast.toFixed(1)} for ${read.slice(0, 30)}`);
      }
    }
    return [...found];
  },
};
