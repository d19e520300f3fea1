import { readdir } from "node:fs/promises";
import { join, posix } from "node:path";

/** The files of a data set below one folder, by `/`-separated relative path. Hidden files and `__MACOSX` are left out. */
export class DatasetFolder {
  readonly root: string;
  /** Sorted. */
  readonly files: readonly string[];
  readonly #paths: ReadonlySet<string>;
  readonly #byLowerCase = new Map<string, string[]>();
  readonly #byBaseName = new Map<string, string[]>();

  constructor(root: string, files: readonly string[]) {
    this.root = root;
    this.files = files.toSorted();
    this.#paths = new Set(files);
    for (const file of this.files) {
      append(this.#byLowerCase, file.toLowerCase(), file);
      append(this.#byBaseName, posix.basename(file), file);
    }
  }

  /** Lists a folder. Links are not followed, so nothing outside of it is ever read. */
  static async open(root: string): Promise<DatasetFolder> {
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replaceAll("\\", "/").replace(/^\/+/, ""))
      .filter((file) => !file.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
    return new DatasetFolder(root, files);
  }

  has(file: string): boolean {
    return this.#paths.has(file);
  }

  /** Absolute path of a file of this folder. */
  pathOf(file: string): string {
    return join(this.root, ...file.split("/"));
  }

  /**
   * Finds a picture that an annotation file names: as written from the root, beside the annotation file or in an
   * `images` folder next to it, else the only file with that name anywhere.
   */
  find(name: string, namedIn: string): FoundFile {
    const wanted = posix.normalize(name.replaceAll("\\", "/")).replace(/^(?:\.\/|\/)+/, "");
    if (wanted === "" || wanted.split("/").includes("..")) return { file: null, problem: "outside" };
    const beside = posix.dirname(namedIn);
    const up = posix.dirname(beside);
    const places = [beside, posix.join(beside, "images"), ".", "images", up, posix.join(up, "images")];
    const candidates = places.map((place) => posix.normalize(posix.join(place, wanted)));
    const exact = candidates.find((candidate) => this.#paths.has(candidate));
    if (exact !== undefined) return { file: exact, problem: null };
    const sameName = this.#byBaseName.get(posix.basename(wanted)) ?? [];
    const deeper = sameName.filter((file) => file.endsWith(`/${wanted}`));
    const [only] = deeper.length > 0 ? deeper : sameName;
    if (only !== undefined && (deeper.length === 1 || (deeper.length === 0 && sameName.length === 1)))
      return { file: only, problem: null };
    if (only !== undefined) return { file: null, problem: "ambiguous", similar: deeper.length > 0 ? deeper : sameName };
    const otherCase = candidates.flatMap((candidate) => this.#byLowerCase.get(candidate.toLowerCase()) ?? []);
    return otherCase.length > 0
      ? { file: null, problem: "other-case", similar: [...new Set(otherCase)] }
      : { file: null, problem: "missing" };
  }
}

export type FoundFile =
  | { readonly file: string; readonly problem: null }
  | { readonly file: null; readonly problem: "outside" | "missing" }
  | { readonly file: null; readonly problem: "ambiguous" | "other-case"; readonly similar: readonly string[] };

const pictureExtensions = new Set(["jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "avif", "bmp"]);

/** Whether a file name ends as a picture's does. */
export function isPictureName(file: string): boolean {
  return pictureExtensions.has(posix.extname(file).slice(1).toLowerCase());
}

/** A file name without folder and extension. */
export function stemOf(file: string): string {
  return posix.basename(file, posix.extname(file));
}

function append(map: Map<string, string[]>, key: string, value: string): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
