// What static/editor.js uses of CodeMirror, and nothing more.
export { basicSetup, EditorView } from "codemirror";
export { autocompletion } from "@codemirror/autocomplete";
export { indentWithTab } from "@codemirror/commands";
export { json } from "@codemirror/lang-json";
export { yaml } from "@codemirror/lang-yaml";
export { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
export { lintGutter, nextDiagnostic, setDiagnostics } from "@codemirror/lint";
export { Compartment } from "@codemirror/state";
export { keymap } from "@codemirror/view";
export { tags } from "@lezer/highlight";
