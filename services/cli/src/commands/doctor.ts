import { join } from "node:path";
import type { Command } from "commander";
import { examine, type Finding } from "../doctor/checks.ts";
import { cliExitCodes } from "../exit-codes.ts";
import { contextOf, wholeNumber } from "./context.ts";

const defaultPort = 7420;
const marks: Readonly<Record<Finding["status"], string>> = { ok: "ok     ", warning: "warning", missing: "MISSING" };

/** `drydock doctor`: what is missing on this computer and how to get it. */
export function addDoctorCommand(program: Command): void {
  program
    .command("doctor")
    .description("look for what Drydock needs on this computer; say what is missing and how to get it")
    .option("--port <number>", "port that the server would take", wholeNumber("--port", 1), defaultPort)
    .action(async function (this: Command, { port }: { port: number }) {
      const { output, options } = contextOf(this);
      const stateDirectory = options.state ?? join(process.cwd(), ".drydock");
      const findings = await examine({ stateDirectory, port, environment: process.env });
      const missing = findings.filter(({ status }) => status === "missing");
      output.answer({ ok: missing.length === 0, findings }, () => [
        ...findings.flatMap(({ name, status, found, remedy }) => [
          `${marks[status]}  ${name.padEnd(12)} ${found}`,
          ...(remedy === "" ? [] : [`${" ".repeat(22)}→ ${remedy}`]),
        ]),
        "",
        missing.length === 0
          ? "Nothing that Drydock cannot do without is missing."
          : `${missing.length} missing: ${missing.map(({ name }) => name).join(", ")}.`,
      ]);
      if (missing.length > 0) process.exitCode = cliExitCodes.unsuccessful;
    });
}
