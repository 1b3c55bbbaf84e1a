// Writes the chart library of the report pages, and its hash beside it:  npm ci && npm run bundle
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const OUT = new URL("../../src/graft/report/shared/plot.bundle.js", import.meta.url);
const result = await build({
  entryPoints: ["entry.js"], bundle: true, minify: true, format: "iife", globalName: "Plot", target: "es2020",
  charset: "ascii", legalComments: "none", metafile: true, write: false,
});

/** The packages whose code is in the bundle, each with its version and the text of its licence. */
const [{ inputs }] = Object.values(result.metafile.outputs);
const names = Object.keys(inputs).filter((path) => inputs[path].bytesInOutput).map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]);
const packages = [...new Set(names.filter(Boolean))].sort().map((name) => {
  const folder = `node_modules/${name}`, { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  if (!file) throw new Error(`${name} has no licence file: its terms must go into the banner`);
  return { name, version, license, text: readFileSync(`${folder}/${file}`, "utf8").trim() };
});

// Many packages share one text but for the line of the copyright: each text stands once, under all that have it.
const terms = new Map();
for (const { name, version, license, text } of packages) {
  const holder = text.match(/^Copyright.*$/m)?.[0] ?? "no copyright";
  const body = text.replace(/^Copyright.*$/m, "").replace(/\s+/g, " ").trim();
  terms.set(body, [...(terms.get(body) ?? []), `${name} ${version} (${license}), ${holder}`]);
}
const banner = ["/*! Observable Plot and what it needs, bundled by tools/bundle_plot.",
  ...[...terms].flatMap(([body, holders]) => ["", ...holders, body.replaceAll("*/", "* /")]), "*/"].join("\n");
const code = `${banner}\n${result.outputFiles[0].text}`;
for (const bad of [/\beval\(/, /new Function/, /<\/script/i, /<!--/]) {
  if (bad.test(code)) throw new Error(`the bundle holds ${bad}, which a page's content policy or its markup forbids`);
}
writeFileSync(OUT, code);
writeFileSync(new URL("plot.bundle.sha256", OUT), `${createHash("sha256").update(code).digest("hex")}  plot.bundle.js\n`);
console.log(`${code.length} bytes, ${packages.length} packages`);
