import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What a Containerfile of this folder says about how its image runs. */
export interface ContainerSettings {
  readonly user: string;
  readonly workingDirectory: string;
  /** `NAME=value` each. */
  readonly environment: readonly string[];
  readonly entrypoint: readonly string[];
  /** Staged folders that are copied, in order. */
  readonly copied: readonly { readonly from: string; readonly to: string }[];
}

/** Reads the instructions that the test cluster's image shares with the Containerfile. @throws when one is missing */
export function containerSettings(name: string): ContainerSettings {
  const lines = readFileSync(join(import.meta.dirname, `${name}.Containerfile`), "utf8")
    .split("\n")
    .map((line) => /^([A-Z]+) (.+)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, instruction = "", rest = ""]) => ({ instruction, rest: rest.trim() }));
  const all = (wanted: string): string[] =>
    lines.filter(({ instruction }) => instruction === wanted).map(({ rest }) => rest);
  const one = (wanted: string): string => {
    const last = all(wanted).at(-1);
    if (last === undefined) throw new Error(`images/${name}.Containerfile has no ${wanted}`);
    return last;
  };
  return {
    user: one("USER"),
    workingDirectory: one("WORKDIR"),
    environment: all("ENV"),
    entrypoint: JSON.parse(one("ENTRYPOINT")) as string[],
    copied: all("COPY")
      .filter((rest) => !rest.startsWith("--from"))
      .map((rest) => {
        const [from = "", to = ""] = rest.split(/\s+/);
        return { from, to };
      }),
  };
}
