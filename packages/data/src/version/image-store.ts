import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { sha256, type ObjectStorage } from "@drydock/kit";
import type { RecordImage } from "@drydock/spec";
import type { DatasetFolder } from "../importers/dataset-folder.ts";
import type { ImageReference } from "../importers/source-row.ts";
import type { RowProblem } from "../validation/row-problem.ts";
import { inspectImage, type ImageLimits, type InspectedImage } from "../validation/inspect-image.ts";
import { datasetKeys } from "./layout.ts";

/** A picture of a row that decodes, and where its bytes are. */
export interface OpenedImage {
  readonly inspected: InspectedImage;
  readonly fileName: string;
  readonly source: { readonly path: string } | { readonly bytes: Uint8Array };
}

export type OpenResult = OpenedImage | RowProblem;

/** Opens the pictures of a data set and stores them by content; each file is decoded and stored once. */
export class ImageStore {
  readonly #folder: DatasetFolder;
  readonly #storage: ObjectStorage;
  readonly #datasetId: string;
  readonly #limits: ImageLimits;
  readonly #opened = new Map<string, Promise<OpenResult>>();
  readonly #stored = new Map<string, Promise<void>>();

  constructor(folder: DatasetFolder, storage: ObjectStorage, datasetId: string, limits: ImageLimits) {
    this.#folder = folder;
    this.#storage = storage;
    this.#datasetId = datasetId;
    this.#limits = limits;
  }

  /** Pictures that were opened or stored, for progress. */
  get count(): number {
    return this.#stored.size;
  }

  /** Finds and decodes a picture; or says why it cannot be used. */
  async open(reference: ImageReference): Promise<OpenResult> {
    if (reference.kind === "bytes") return await this.#openBytes(reference.name, reference.base64);
    const found = this.#folder.find(reference.name, reference.namedIn);
    if (found.file === null) return notFound(reference.name, found);
    const { file } = found;
    const started = this.#opened.get(file) ?? this.#openFile(file);
    this.#opened.set(file, started);
    return await started;
  }

  /** Stores an opened picture; what is there already is not written again. */
  async store({ inspected, fileName, source }: OpenedImage): Promise<RecordImage> {
    const key = datasetKeys.image(this.#datasetId, inspected.sha256, inspected.extension);
    const started = this.#stored.get(key) ?? this.#put(key, inspected.sizeBytes, source);
    this.#stored.set(key, started);
    await started;
    return {
      key,
      sha256: inspected.sha256,
      fileName,
      width: inspected.width,
      height: inspected.height,
      sizeBytes: inspected.sizeBytes,
    };
  }

  async #put(key: string, sizeBytes: number, source: OpenedImage["source"]): Promise<void> {
    if ((await this.#storage.head(key))?.sizeBytes === sizeBytes) return;
    if ("path" in source) await this.#storage.putFile(key, source.path);
    else await this.#storage.put(key, source.bytes);
  }

  async #openFile(file: string): Promise<OpenResult> {
    const path = this.#folder.pathOf(file);
    const { size } = await stat(path);
    if (size > this.#limits.maxBytes)
      return problemOf(
        file,
        "image_too_large",
        `has ${Math.round(size / 2 ** 20)} MiB; at most ${Math.round(this.#limits.maxBytes / 2 ** 20)} MiB are accepted. Save it smaller`,
      );
    const inspected = await inspectImage(await readFile(path), this.#limits);
    return inspected.isUsable
      ? { inspected, fileName: file, source: { path } }
      : problemOf(file, inspected.code, inspected.message);
  }

  async #openBytes(name: string, base64: string): Promise<OpenResult> {
    if (base64.length * 0.75 > this.#limits.maxBytes)
      return problemOf(
        name,
        "image_too_large",
        `has more than ${Math.round(this.#limits.maxBytes / 2 ** 20)} MiB. Save it smaller`,
      );
    const bytes = Buffer.from(base64, "base64");
    const inspected = await inspectImage(bytes, this.#limits);
    return inspected.isUsable
      ? { inspected, fileName: name, source: { bytes } }
      : problemOf(name, inspected.code, inspected.message);
  }
}

function problemOf(name: string, code: string, message: string): RowProblem {
  return { code, path: name, message: `picture ${name} ${message}` };
}

/** Why a name leads to no picture. */
function notFound(name: string, found: Exclude<ReturnType<DatasetFolder["find"]>, { problem: null }>): RowProblem {
  switch (found.problem) {
    case "outside":
      return {
        code: "image_outside",
        path: name,
        message: `picture "${name}" lies outside the data set: name it relative to the data set's folder`,
      };
    case "missing":
      return {
        code: "image_missing",
        path: name,
        message: `picture "${name}" is not in the data set: upload it or correct the name`,
      };
    case "other-case":
      return {
        code: "image_name_case",
        path: name,
        message: `picture "${name}" is not in the data set, but "${found.similar[0]}" is: names must match in upper and lower case`,
      };
    case "ambiguous":
      return {
        code: "image_ambiguous",
        path: name,
        message: `picture "${name}" could be ${found.similar
          .slice(0, 3)
          .map((file) => `"${file}"`)
          .join(" or ")}: name it with its folder`,
      };
  }
}

/** The first 16 hex digits of a record's content: the stem of its row id. */
export function contentDigest(canonicalContent: string): string {
  return sha256(canonicalContent).slice(0, 16);
}

/** SHA-256 over lines, for the digest of a version. */
export function lineHasher(): { add(line: string): void; digest(): string } {
  const hash = createHash("sha256");
  return { add: (line) => void hash.update(line).update("\n"), digest: () => hash.digest("hex") };
}
