import type { Command } from "commander";
import { up } from "../up/up.ts";
import { contextOf, wholeNumber } from "./context.ts";

/** `drydock up`: everything on this computer. */
export function addUpCommand(program: Command): void {
  program
    .command("up")
    .option("--port <number>", "port of the API; 0 takes any free one", wholeNumber("--port", 0))
    .description("start everything on this computer and stay up until Ctrl-C; state lives in .drydock")
    .action(async function (this: Command, { port }: { port?: number }) {
      const { output, options, signal } = contextOf(this);
      // A supervisor that stops us must close in order too.
      const ended = new AbortController();
      process.once("SIGTERM", () => ended.abort());
      await up({
        state: options.state,
        port,
        tell: (line) => output.note(line),
        signal: AbortSignal.any([signal, ended.signal]),
        onReady: ({ url, key }) =>
          output.item(
            { ready: true, url, key },
            () => `Drydock is ready: ${url}  (API reference: ${url}/docs, key: ${key})`,
          ),
      });
    });
}
