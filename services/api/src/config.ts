import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import type { DatabaseLocation } from "./store/database.ts";
import { isAddressOrNetwork } from "./webhooks/webhook-targets.ts";

const repository = join(import.meta.dirname, "..", "..", "..");

const Environment = z.object({
  HOST: z.string().min(1).default("127.0.0.1"),
  /** 0: any free port. */
  PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  DATABASE_URL: z
    .string()
    .regex(/^postgres(?:ql)?:\/\//, "use postgresql://user:password@host:port/database")
    .optional(),
  PGLITE_DIRECTORY: z.string().min(1).default(join(".drydock", "database")),
  STORAGE_URL: z
    .string()
    .min(1)
    .default(pathToFileURL(join(process.cwd(), ".drydock", "storage")).href),
  /** `redirect`: files come from object storage by presigned URLs, where storage has them; `stream`: through this process. */
  DRYDOCK_DOWNLOADS: z.enum(["redirect", "stream"]).default("redirect"),
  TEMPORAL_ADDRESS: z.string().min(1).default("127.0.0.1:7233"),
  TEMPORAL_NAMESPACE: z.string().min(1).default("default"),
  DRYDOCK_API_KEY: z.string().min(16, "use at least 16 characters").optional(),
  DRYDOCK_INTERNAL_KEY: z.string().min(16, "use at least 16 characters"),
  /** PEM of the Ed25519 key that signs the manifests of models, or a file with it. Default: a key that follows from the internal key. */
  DRYDOCK_SIGNING_KEY: z.string().min(1).optional(),
  DRYDOCK_SIGNING_KEY_FILE: z.string().min(1).optional(),
  /** Folder of base models on this machine. */
  MODELS_DIRECTORY: z.string().min(1).default(join(repository, "models")),
  /** `local`: runs are planned for this computer's processor; `any`: for every accelerator of the table. */
  DRYDOCK_ACCELERATORS: z.enum(["local", "any"]).default("local"),
  /** Addresses and networks that are not public and that webhooks may go to all the same: `10.1.0.0/16,192.168.7.20`. */
  DRYDOCK_WEBHOOK_ALLOW: z
    .string()
    .transform((text) => text.split(",").map((each) => each.trim()))
    .refine((list) => list.every(isAddressOrNetwork), "use addresses and networks, e.g. 10.1.0.0/16,192.168.7.20")
    .optional(),
  /** `1`: the process ends when its standard input closes, so that it never outlives the one that started it. */
  DRYDOCK_PARENT_PIPE: z.enum(["0", "1"]).default("0"),
});

export interface ApiConfig {
  readonly host: string;
  readonly port: number;
  readonly database: DatabaseLocation;
  readonly storageUrl: string;
  readonly downloads: "redirect" | "stream";
  readonly temporal: { readonly address: string; readonly namespace: string };
  readonly apiKey: string | undefined;
  readonly internalKey: string;
  /** PEM. */
  readonly signingKey: string | undefined;
  readonly modelsDirectory: string;
  readonly accelerators: "local" | "any";
  readonly webhookAllow: readonly string[];
  readonly endsWithParent: boolean;
}

/** The configuration in environment variables. @throws InvalidError `invalid_configuration`, naming each variable */
export function apiConfigOf(environment: Readonly<Record<string, string | undefined>>): ApiConfig {
  const filled = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""),
  );
  const parsed = Environment.safeParse(filled);
  if (!parsed.success) {
    const details = parsed.error.issues.map((issue) => ({
      path: issue.path.join("."),
      code: issue.code,
      message: issue.message,
    }));
    throw new InvalidError(
      "invalid_configuration",
      details.map(({ path, message }) => `${path}: ${filled[path] === undefined ? "must be set" : message}`).join("; "),
      { details },
    );
  }
  const read = parsed.data;
  return {
    host: read.HOST,
    port: read.PORT,
    database:
      read.DATABASE_URL === undefined
        ? { kind: "pglite", directory: read.PGLITE_DIRECTORY }
        : { kind: "postgres", url: read.DATABASE_URL },
    storageUrl: read.STORAGE_URL,
    downloads: read.DRYDOCK_DOWNLOADS,
    temporal: { address: read.TEMPORAL_ADDRESS, namespace: read.TEMPORAL_NAMESPACE },
    apiKey: read.DRYDOCK_API_KEY,
    internalKey: read.DRYDOCK_INTERNAL_KEY,
    signingKey: read.DRYDOCK_SIGNING_KEY ?? keyInFile(read.DRYDOCK_SIGNING_KEY_FILE),
    modelsDirectory: read.MODELS_DIRECTORY,
    accelerators: read.DRYDOCK_ACCELERATORS,
    webhookAllow: read.DRYDOCK_WEBHOOK_ALLOW ?? [],
    endsWithParent: read.DRYDOCK_PARENT_PIPE === "1",
  };
}

function keyInFile(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new InvalidError(
      "invalid_configuration",
      `DRYDOCK_SIGNING_KEY_FILE: ${path} cannot be read (${messageOf(error)}): make a key there with \`openssl genpkey -algorithm ed25519 -out ${path}\``,
      { cause: error },
    );
  }
}
