import { execFile } from "node:child_process";
import { access, constants, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { NotFoundError, messageOf } from "@drydock/kit";

const run = promisify(execFile);
export const temporalVersion = "1.8.2";
/** Version of the SDK whose own download may lie in the temporary folder. */
const sdkVersion = "1.24.0";

/** The CLI's go.mod, with the replacement that keeps `go install` from working: cliext has no tag of its own. */
const goModule = `module drydock.local/tools/temporal

go 1.26

require github.com/temporalio/cli v${temporalVersion}

replace github.com/temporalio/cli/cliext => github.com/temporalio/cli/cliext v0.0.0-20260731000218-c579925f193f
`;

/** Where tools that Drydock builds are kept, by version, outside any checkout. */
export function toolCache(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  return (
    environment["DRYDOCK_TOOLS"] ?? join(environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "drydock", "tools")
  );
}

/** The first Temporal CLI found: on PATH, the SDK's download, the tool cache. Null when there is none. */
export async function findTemporal(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string | null> {
  const candidates = [
    ...(environment["PATH"] ?? "")
      .split(delimiter)
      .filter(Boolean)
      .map((folder) => join(folder, "temporal")),
    join(tmpdir(), `temporal-sdk-typescript-${sdkVersion}`),
    builtPath(environment),
  ];
  for (const path of candidates) if (await isExecutable(path)) return path;
  return null;
}

/**
 * A Temporal CLI, built from its Go module into the tool cache when none is found (once, about four minutes on two cores).
 *
 * @param tell  gets a line before the build starts
 * @throws NotFoundError saying how to get one when there is no Go either
 */
export async function ensureTemporal(tell: (line: string) => void): Promise<string> {
  return (await findTemporal()) ?? (await buildTemporal(tell));
}

async function buildTemporal(tell: (line: string) => void): Promise<string> {
  try {
    await run("go", ["version"]);
  } catch (error) {
    throw new NotFoundError(
      "no_temporal",
      "no Temporal server was found: put the `temporal` command line tool on PATH, set TEMPORAL_ADDRESS to a running server, or install Go 1.26 so that it can be built",
      { cause: error },
    );
  }
  tell(`building the Temporal server ${temporalVersion} from its Go module, once (about 4 minutes on 2 cores) …`);
  const folder = await mkdtemp(join(tmpdir(), "drydock-temporal-"));
  try {
    await writeFile(join(folder, "go.mod"), goModule);
    await run(
      "go",
      [
        "build",
        "-mod=mod",
        "-trimpath",
        "-ldflags",
        "-s -w",
        "-o",
        join(folder, "temporal"),
        "github.com/temporalio/cli/cmd/temporal",
      ],
      { cwd: folder, maxBuffer: 1 << 26 },
    );
    await mkdir(join(builtPath(), ".."), { recursive: true });
    // The cache may lie on another file system than the temporary folder: copy beside, then rename.
    await run("cp", [join(folder, "temporal"), `${builtPath()}.${process.pid}`]);
    await rename(`${builtPath()}.${process.pid}`, builtPath());
    return builtPath();
  } catch (error) {
    throw new NotFoundError(
      "no_temporal",
      `the Temporal server could not be built (${messageOf(error).split("\n").slice(0, 3).join(" ")}): put the \`temporal\` command line tool on PATH instead`,
      { cause: error },
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function builtPath(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(toolCache(environment), `temporal-${temporalVersion}`, "temporal");
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
