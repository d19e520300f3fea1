import { z } from "zod";
import { Name } from "./common.ts";

/** Names that point at a version; a number would be taken for one. */
const aliasPattern = /^(?![0-9]+$)[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/;

/** The alias of the version in production. Only a promotion, a rollback or a retirement moves it. */
export const productionAlias = "production";
/** Always the newest version whose files are there; nobody sets it. */
export const latestAlias = "latest";

/** A name that points at a version of a model, as in `weld@production`. */
export const ModelAlias = z
  .string()
  .regex(
    aliasPattern,
    "use 1-63 lower-case letters, digits, dots and dashes, not only digits, which would be a version's number",
  )
  .meta({ id: "ModelAlias" });

/** A version of a model in a URL: its number, or an alias. */
export const VersionOrAlias = z.union([
  z
    .string()
    .regex(/^[1-9][0-9]{0,8}$/)
    .transform(Number),
  ModelAlias,
]);
export type VersionOrAlias = z.output<typeof VersionOrAlias>;

/** Why nobody may set this alias by hand; null when anybody may. */
export function aliasRefusal(name: string, alias: string): string | null {
  switch (alias) {
    case productionAlias:
      return `the alias "production" follows the stage: promote a version with POST /v1/models/${name}/versions/{version}/stage, or roll back with POST /v1/models/${name}/rollback`;
    case latestAlias:
      return `the alias "latest" always means the newest version of ${name}: choose another name`;
    case "candidate":
    case "staging":
    case "archived":
      return `"${alias}" is a stage, and several versions may be in it: choose another name for the alias`;
    default:
      return /^v?[0-9]+$/.test(alias)
        ? `the alias "${alias}" would be read as version ${alias.replace("v", "")}: choose another name`
        : null;
  }
}

/** What `name`, `name@3` or `name@alias` says. */
export interface ParsedModelReference {
  readonly name: string;
  /** Null: the newest. */
  readonly version: VersionOrAlias | null;
}

/** The parts of `name`, `name@3` or `name@alias`; null when it is none of these. */
export function parseModelReference(reference: string): ParsedModelReference | null {
  const [name = "", version, ...rest] = reference.split("@");
  if (rest.length > 0 || !Name.safeParse(name).success) return null;
  if (version === undefined) return { name, version: null };
  const parsed = VersionOrAlias.safeParse(version);
  return parsed.success ? { name, version: parsed.data } : null;
}
