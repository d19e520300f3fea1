import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { NotFoundError } from "@drydock/kit";

/** One set of pictograms, drawn by one studio. */
export interface ArtworkSet {
  /** Name of the set inside its npm package, `@iconify-json/<name>`. */
  readonly name: string;
  readonly title: string;
  readonly license: string;
}

/** The sets that training sees: the tiny base model and the demo's training split. */
export const trainingArtwork: readonly ArtworkSet[] = [
  { name: "noto", title: "Noto Emoji (Google)", license: "Apache-2.0" },
  { name: "openmoji", title: "OpenMoji", license: "CC-BY-SA-4.0" },
  { name: "fluent-emoji-flat", title: "Fluent Emoji (Microsoft)", license: "MIT" },
];

/** The set that no training ever sees: every validation picture of the demo is made from it. */
export const heldOutArtwork: ArtworkSet = { name: "twemoji", title: "Twemoji (Twitter)", license: "CC-BY-4.0" };

interface IconFile {
  readonly icons: Readonly<
    Record<string, { readonly body: string; readonly width?: number; readonly height?: number }>
  >;
  readonly aliases?: Readonly<Record<string, { readonly parent: string }>>;
  readonly width?: number;
  readonly height?: number;
}

/** The drawings of one set, by name. */
export interface ArtworkDrawings {
  has(name: string): boolean;
  /** The whole SVG document of one drawing. @throws NotFoundError when the set has no drawing of that name */
  svg(name: string): string;
}

const require = createRequire(import.meta.url);

/** Reads one installed set. @throws NotFoundError when its npm package is not installed */
export function readArtwork(set: ArtworkSet): ArtworkDrawings {
  const file = JSON.parse(readFileSync(packageFile(set), "utf8")) as IconFile;
  const find = (name: string) => file.icons[name] ?? file.icons[file.aliases?.[name]?.parent ?? ""];
  return {
    has: (name) => find(name) !== undefined,
    svg(name) {
      const icon = find(name);
      if (icon === undefined) throw new NotFoundError("drawing_not_found", `${set.title} has no drawing named ${name}`);
      const width = icon.width ?? file.width ?? 16;
      const height = icon.height ?? file.height ?? 16;
      return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">${icon.body}</svg>`;
    },
  };
}

function packageFile(set: ArtworkSet): string {
  const specifier = `@iconify-json/${set.name}/icons.json`;
  try {
    return require.resolve(specifier);
  } catch (cause) {
    throw new NotFoundError(
      "artwork_not_installed",
      `the pictograms of ${set.title} are not installed: run npm install in the repository's root`,
      { cause },
    );
  }
}
