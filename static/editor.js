/* The job editor: a CodeMirror over <textarea data-editor>, which stays the form's field.

   <textarea data-editor="yaml" data-schema="/api/v1/jobs/schema"> inside a form with hx-trigger="plan".
   The answer renders each problem as <p data-problem-line="21" data-problem-level="bad">…</p>, and controls that
   change the plan carry data-replan. A submit button with data-stay does not leave the page. */
(() => {
  const nonce = document.currentScript.nonce;
  const { EditorView, basicSetup, keymap, yaml, json, tags, HighlightStyle, syntaxHighlighting,
    autocompletion, indentWithTab, lintGutter, setDiagnostics, nextDiagnostic } = codemirror;

  const look = EditorView.theme({
    "&": { blockSize: "100%", fontSize: "0.78125rem", backgroundColor: "var(--surface)", color: "var(--ink)" },
    "&.cm-focused": { outline: "none" },
    ".cm-scroller": { fontFamily: "var(--font-mono)", lineHeight: "var(--leading-code)" },
    ".cm-content": { paddingBlock: "var(--space-3)", caretColor: "var(--ink)" },
    ".cm-cursor": { borderLeftColor: "var(--ink)" },
    ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--ink-3)", borderRight: "var(--hair) solid var(--hairline)" },
    ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
    "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--selected)" },
    ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--selected)" },
    ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "var(--hair) solid var(--hairline-strong)" },
    ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent-fill)", color: "var(--on-accent)" },
    ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--ink)" },
    ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad-mark) 1px" },
    ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--warn-mark) 1px" },
  });
  const colours = HighlightStyle.define([
    { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--code-key)" },
    { tag: [tags.string, tags.content], color: "var(--code-string)" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
    { tag: tags.comment, color: "var(--ink-3)" },
  ]);

  /* Completion: keys by indentation, values by the key before the colon. Both from the JSON Schema. */
  const resolve = (schema, root) => {
    for (let node = schema; node; ) {
      if (node.$ref) node = node.$ref.slice(2).split("/").reduce((at, key) => at?.[key], root);
      else if (!node.properties && (node.anyOf ?? node.oneOf ?? node.allOf)) node = (node.anyOf ?? node.oneOf ?? node.allOf).find((one) => one.type !== "null");
      else if (node.items) node = node.items;
      else return node;
    }
    return {};
  };
  const parents = (doc, line, indent) => {
    const path = [];
    for (let at = line - 1, limit = indent; at >= 1 && limit > 0; at--) {
      const [, space, dash, key] = doc.line(at).text.match(/^(\s*)((?:- )?)"?([\w-]+)"?\s*:/) ?? [];
      if (key === undefined || space.length + dash.length >= limit) continue;
      path.unshift(key);
      limit = space.length;
    }
    return path;
  };
  const options = (names, properties, suffix) => names.map((name) => ({
    label: String(name), apply: name + suffix, type: suffix ? "property" : "enum", info: properties?.[name]?.description,
  }));
  const completer = (address) => {
    const asked = address ? fetch(address, { headers: { Accept: "application/json" } }).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null) : null;
    return async ({ state, pos, explicit }) => {
      const schema = await asked;
      if (!schema) return null;
      const line = state.doc.lineAt(pos);
      const before = line.text.slice(0, pos - line.from);
      const [, space, dash, key, value] = before.match(/^(\s*)((?:- )?)"?([\w-]*)(?:"?\s*:\s+"?([\w.-]*))?$/) ?? [];
      if (key === undefined || (!explicit && !key)) return null;
      const parent = parents(state.doc, line.number, space.length + dash.length).reduce((at, name) => resolve(at.properties?.[name] ?? at.additionalProperties, schema), resolve(schema, schema));
      if (value === undefined) return { from: pos - key.length, options: options(Object.keys(parent.properties ?? {}), parent.properties, ": ") };
      const leaf = resolve(parent.properties?.[key], schema);
      return { from: pos - value.length, options: options(leaf.enum ?? (leaf.type === "boolean" ? [true, false] : []), null, "") };
    };
  };

  const enhance = (area) => {
    const { editor: language, schema } = area.dataset;
    const form = area.form;
    const saved = area.value;
    let timer = 0;
    let leaving = false;
    const ask = () => { clearTimeout(timer); form.dispatchEvent(new CustomEvent("plan")); };
    const start = () => { form.querySelector("[aria-keyshortcuts~='Control+Shift+Enter']")?.click(); return true; };
    const changed = EditorView.updateListener.of((update) => {
      if (!update.docChanged) return;
      area.value = update.state.doc.toString();
      clearTimeout(timer);
      timer = setTimeout(ask, 600);
    });
    const host = document.createElement("div");
    host.className = "editor-host";
    area.after(host);
    const view = new EditorView({
      doc: area.value,
      parent: host,
      extensions: [
        keymap.of([
          { key: "Mod-Shift-Enter", run: start },
          { key: "Mod-Enter", run: () => { ask(); return true; } },
          { key: "F8", run: nextDiagnostic },
          indentWithTab,
        ]),
        basicSetup,
        language === "json" ? json() : yaml(),
        autocompletion({ override: language === "json" ? undefined : [completer(schema)] }),
        lintGutter(), syntaxHighlighting(colours), look, changed,
        EditorView.cspNonce.of(nonce),
        EditorView.contentAttributes.of({ tabindex: "0", "aria-label": area.getAttribute("aria-label") ?? "Job spec", "aria-describedby": area.getAttribute("aria-describedby") ?? "" }),
      ],
    });
    area.hidden = true;

    /* Problems come from the server's plan column; a click on one moves the cursor. */
    const lineOf = (problem) => view.state.doc.line(Math.min(Math.max(Number(problem.dataset.problemLine) || 1, 1), view.state.doc.lines));
    const mark = () => {
      const found = [...document.querySelectorAll("[data-problem-line]")].map((problem) => {
        const { from, to, text } = lineOf(problem);
        return {
          from: from + text.length - text.trimStart().length,
          to,
          severity: problem.dataset.problemLevel === "warn" ? "warning" : "error",
          message: problem.textContent.trim().replace(/\s+/g, " "),
        };
      });
      view.dispatch(setDiagnostics(view.state, found.sort((one, other) => one.from - other.from)));
    };
    document.addEventListener("htmx:after:swap", mark);
    document.addEventListener("click", (event) => {
      const problem = event.target.closest("[data-problem-line]");
      if (!problem) return;
      event.preventDefault();
      view.dispatch({ selection: { anchor: lineOf(problem).from }, scrollIntoView: true });
      view.focus();
    });
    mark();
    form.addEventListener("change", (event) => { if (event.target.matches("[data-replan]")) ask(); });
    form.addEventListener("submit", (event) => { leaving = !event.submitter?.matches("[data-stay]"); });
    window.addEventListener("beforeunload", (event) => { if (!leaving && area.value !== saved) event.preventDefault(); });
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("textarea[data-editor]").forEach(enhance));
})();
