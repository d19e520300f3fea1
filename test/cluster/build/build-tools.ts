// Builds every server of the test cluster into the tool cache, one after the other: each build uses all cores.
import { ensureVersitygw } from "@drydock/kit/versitygw";
import { ensureContainerRuntime } from "./container-runtime.ts";
import { ensureTool } from "./build-tool.ts";
import { tools, type ToolName } from "./tools.ts";

const tell = (line: string) => console.log(line);

for (const name of Object.keys(tools) as ToolName[]) {
  console.log(`${name}: ${await ensureTool(name, tell)}`);
}
console.log(`versitygw: ${await ensureVersitygw()}`);
const runtime = await ensureContainerRuntime();
console.log(`container runtime: ${"missing" in runtime ? `none (${runtime.missing})` : runtime.containerd}`);
