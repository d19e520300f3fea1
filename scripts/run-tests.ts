/*
 * Runs all tests as two lanes side by side: those of a cluster mostly wait for servers, the others mostly compute. The first
 * lane is seen as it runs, the second one's output follows. Ends with the sum of both, `N passed, N failed`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

interface Lane {
  readonly name: string;
  readonly projects: readonly string[];
}

const lanes: readonly Lane[] = [
  { name: "computer", projects: ["unit", "e2e", "chaos"] },
  { name: "cluster", projects: ["cluster"] },
];

interface LaneEnd {
  readonly exitCode: number;
  readonly passed: number;
  readonly failed: number;
}

/** Failed tests of all lanes, told again at the end. */
const failures: string[] = [];

async function runLane({ name, projects }: Lane, before: Promise<unknown>): Promise<LaneEnd> {
  const child = spawn("vitest", ["run", ...projects.map((project) => `--project=${project}`)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, DRYDOCK_TEST_LANE: name },
  });
  const exited = once(child, "close") as Promise<[number | null]>;
  const isFirst = lanes[0]?.name === name;
  let told = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    told += chunk;
    if (isFirst) process.stdout.write(chunk);
  });
  const [exitCode] = await exited;
  await before;
  if (!isFirst) process.stdout.write(`\n${told}`);
  failures.push(...told.split("\n").filter((line) => line.startsWith("failed: ")));
  const [, passed, failed] = new RegExp(`^${name}: (\\d+) passed, (\\d+) failed`, "m").exec(told) ?? [];
  return { exitCode: exitCode ?? 1, passed: Number(passed ?? 0), failed: Number(failed ?? 1) };
}

let before: Promise<unknown> = Promise.resolve();
const running = lanes.map((lane) => (before = runLane(lane, before)) as Promise<LaneEnd>);
const ends = await Promise.all(running);
const sum = (count: (end: LaneEnd) => number): number => ends.reduce((total, end) => total + count(end), 0);
for (const line of failures) console.log(line);
console.log(`\n${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed)} failed`);
process.exitCode = ends.some(({ exitCode }) => exitCode !== 0) ? 1 : 0;
