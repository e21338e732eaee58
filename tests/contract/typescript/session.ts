// node built/session.js URL KEY FILE: the session of the README with a generated client. It prints what it got as JSON.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const [baseUrl, key, file] = process.argv.slice(2);
if (baseUrl === undefined || key === undefined || file === undefined) {
  throw new Error("expected the arguments URL, KEY and FILE");
}
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const POLL_MILLISECONDS = 100;

/** The body of an answer. Throws if it is a problem. */
function body<Body>(answer: { data?: Body; error?: components["schemas"]["Problem"]; response: Response }): Body {
  if (answer.data === undefined) {
    throw new Error(`${answer.response.url} ${answer.response.status}: ${answer.error?.detail}`);
  }
  return answer.data;
}

/** The first answer for which the condition holds. */
async function waitFor<Answer>(ask: () => Promise<Answer>, condition: (answer: Answer) => boolean): Promise<Answer> {
  let answer = await ask();
  while (!condition(answer)) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
    answer = await ask();
  }
  return answer;
}

const upload = body(
  await api.POST("/v1/uploads", {
    body: new Blob([readFileSync(file)]),
    bodySerializer: (content) => content,
    headers: { "Content-Type": "application/octet-stream" },
  }),
);

const dataset = body(
  await api.POST("/v1/datasets", { body: { name: "digits", source: { upload: upload.id } } }),
);
const version = await waitFor(
  async () =>
    body(
      await api.GET("/v1/datasets/{name}/versions/{version}", {
        params: { path: { name: dataset.dataset, version: dataset.version } },
      }),
    ),
  ({ state }) => state !== "validating",
);

const queued = body(
  await api.POST("/v1/runs", { body: { dataset: { name: "digits" }, model: "digits", training: { epochs: 1 } } }),
);
const run = await waitFor(
  async () => body(await api.GET("/v1/runs/{run_id}", { params: { path: { run_id: queued.id } } })),
  ({ state }) => state !== "queued" && state !== "running",
);
if (run.version === null) {
  throw new Error(`the run ended as ${run.state}: ${run.error?.detail}`);
}

const path = { name: run.model, version: run.version };
const images = body(
  await api.POST("/v1/models/{name}/versions/{version}/reconstruct", {
    params: { path },
    body: { inputs: { label: [0, 2] }, targets: ["image"] },
  }),
);
const codes = body(
  await api.POST("/v1/models/{name}/versions/{version}/encode", {
    params: { path },
    body: { inputs: { image: [[[0, 0], [0, 0]], null], label: [null, 1] } },
  }),
);

const { error } = await api.GET("/v1/runs/{run_id}", { params: { path: { run_id: "run_of_nobody" } } });
const problem: components["schemas"]["Problem"] | undefined = error;

console.log(
  JSON.stringify({
    format: upload.format,
    arrays: upload.arrays.map(({ name }) => name),
    dataset: { state: version.state, rows: version.rows },
    run: run.state,
    mean: images.outputs["image"]?.["mean"],
    codes: codes.mean,
    problem: problem?.code,
  }),
);
