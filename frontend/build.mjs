// Builds static/vendor from the exact versions of package-lock.json: npm ci && npm run build.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = `${here}../static/vendor/`;
mkdirSync(out, { recursive: true });

const packageOf = (name) => {
  const { version, license } = JSON.parse(readFileSync(`${here}node_modules/${name}/package.json`));
  return { name, version, license };
};

// Source maps are not shipped, and a manifest storage would look for the file that the comment names.
const copied = (file, source) => {
  const text = readFileSync(`${here}node_modules/htmx.org/dist/${source}`, "utf8");
  writeFileSync(out + file, `${text.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "")}\n`);
  return { file, packages: ["htmx.org"] };
};

const bundled = async (file) => {
  const { metafile } = await build({
    absWorkingDir: here,
    entryPoints: ["codemirror.js"],
    outfile: out + file,
    bundle: true,
    minify: true,
    format: "iife",
    globalName: "codemirror",
    target: "es2022",
    legalComments: "none",
    metafile: true,
  });
  const names = Object.keys(metafile.inputs)
    .map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
    .filter(Boolean);
  return { file, packages: [...new Set(names)].sort() };
};

const files = [
  copied("htmx.min.js", "htmx.min.js"),
  copied("hx-ws.min.js", "ext/hx-ws.min.js"),
  await bundled("codemirror.js"),
];
const manifest = files.map(({ file, packages }) => ({
  file,
  sha384: createHash("sha384").update(readFileSync(out + file)).digest("base64"),
  packages: packages.map(packageOf),
}));
writeFileSync(`${out}MANIFEST.json`, `${JSON.stringify(manifest, null, 2)}\n`);

const licences = [...new Set(files.flatMap(({ packages }) => packages))].sort().map((name) => {
  const { version, license } = packageOf(name);
  const text = readFileSync(`${here}node_modules/${name}/LICENSE`, "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(`${out}LICENSES.txt`, licences.join(`\n${"-".repeat(78)}\n\n`));
