// Prints what is installed, as pip does.
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url)));
for (const name of Object.keys(read("../package.json").dependencies))
  console.log(`${name}==${read(`../node_modules/${name}/package.json`).version}`);
console.log(`node==${process.versions.node}`);
