import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const program = `
import { GraphBuilder } from ${JSON.stringify(new URL("../graph/build.ts", import.meta.url).href)};
import { CompiledGraph } from ${JSON.stringify(new URL("compiled-graph.ts", import.meta.url).href)};
const graph = new GraphBuilder();
const compiled = await CompiledGraph.compile({ y: graph.unary("Neg", graph.input("x", [1])) }, { threads: 1 });
await compiled.run({ x: { data: Float32Array.of(2), shape: [1] } }, {});
console.log(process.pid);
`;

test("ONNX Runtime's telemetry stays off: it leaves no trace of itself", async () => {
  const environment = { ...process.env };
  delete environment["ORT_DISABLE_TELEMETRY"];
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    env: environment,
  });
  expect(existsSync(join(tmpdir(), `mat-debug-${stdout.trim()}.log`))).toBe(false);
});
