import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { InvalidError, NotFoundError, messageOf } from "@drydock/kit";
import { z } from "zod";

/** Where the server is, and the key that opens it. */
export interface Connection {
  /** Without a slash at its end. */
  readonly url: string;
  readonly key: string;
}

/** `.drydock/connection.json`, written by `drydock up`. */
const ConnectionFile = z.object({ url: z.string().min(1), key: z.string().min(1) });

export interface ConnectionOptions {
  readonly url?: string | undefined;
  readonly key?: string | undefined;
  readonly state?: string | undefined;
}

/**
 * Finds the server: flags first, then `DRYDOCK_URL` and `DRYDOCK_API_KEY`, then `connection.json` in the state folder
 * (`--state`, `DRYDOCK_STATE`, or `.drydock` in this folder or the nearest one above).
 *
 * @throws NotFoundError `no_server` when nothing says where the server is
 * @throws InvalidError `invalid_connection` when the URL or the file makes no sense
 */
export function findConnection(
  options: ConnectionOptions,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  folder: string = process.cwd(),
): Connection {
  const url = options.url ?? environment["DRYDOCK_URL"];
  const key = options.key ?? environment["DRYDOCK_API_KEY"];
  if (url !== undefined && key !== undefined) return { url: checkUrl(url), key };
  const path = connectionFile(options.state ?? environment["DRYDOCK_STATE"], folder);
  if (path === null) {
    if (url !== undefined)
      throw new InvalidError("invalid_connection", `no key for ${url}: give --key or set DRYDOCK_API_KEY`);
    throw new NotFoundError(
      "no_server",
      "no running server found: start one with `drydock up`, or give --url and --key (or DRYDOCK_URL and DRYDOCK_API_KEY)",
    );
  }
  const file = readConnection(path);
  return { url: checkUrl(url ?? file.url), key: key ?? file.key };
}

function connectionFile(state: string | undefined, folder: string): string | null {
  if (state !== undefined) {
    const path = join(state, "connection.json");
    return existsSync(path) ? path : null;
  }
  for (let at = folder; ; at = dirname(at)) {
    const path = join(at, ".drydock", "connection.json");
    if (existsSync(path)) return path;
    if (dirname(at) === at) return null;
  }
}

function readConnection(path: string): Connection {
  try {
    return ConnectionFile.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    throw new InvalidError(
      "invalid_connection",
      `${path} does not hold a server's url and key (${messageOf(cause).split("\n")[0]}): start \`drydock up\` again`,
      { cause },
    );
  }
}

function checkUrl(url: string): string {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new InvalidError("invalid_connection", `"${url}" is not an http or https URL, e.g. http://127.0.0.1:7420`);
  }
  return url.replace(/\/+$/, "");
}
