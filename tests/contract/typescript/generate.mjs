// node generate.mjs DOCUMENT OUTPUT: writes the TypeScript types of an OpenAPI document.
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const [source, output] = process.argv.slice(2);
const types = await openapiTS(JSON.parse(readFileSync(source, "utf8")), {
  defaultNonNullable: false, // a request may omit a field that has a default
  transform: (schema) => (schema.format === "binary" ? ts.factory.createTypeReferenceNode("Blob") : undefined),
});
writeFileSync(output, astToString(types));
