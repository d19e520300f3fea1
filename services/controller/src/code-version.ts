import { readFileSync } from "node:fs";
import { z } from "zod";

const Package = z.object({ version: z.string() });

/** Which Drydock this is, kept with what it makes: its version, and its commit where the build said one (`0.1.0+3f2a9c1`). */
export function codeVersion(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  const { version } = Package.parse(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")));
  const commit = environment["DRYDOCK_COMMIT"];
  return commit ? `${version}+${commit.slice(0, 12)}` : version;
}
