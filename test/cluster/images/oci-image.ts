import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Files of one layer: `paths` of the folder `from` (or all of it), put under `into` in the image. */
export interface LayerPart {
  readonly from: string;
  readonly paths: readonly string[];
  /** Without leading slash; empty for the root. */
  readonly into: string;
  /** Shell patterns of what stays out. */
  readonly exclude?: readonly string[];
  /** True to put the files in that links point to. */
  readonly follows?: boolean;
}

export interface ImageSpec {
  /** `host/name:tag`, as pods name it. */
  readonly name: string;
  /** Each layer is a list of parts; what changes rarely comes first. */
  readonly layers: readonly (readonly LayerPart[])[];
  readonly entrypoint: readonly string[];
  readonly environment?: readonly string[];
  readonly workingDirectory?: string;
  /** `user:group` by number. */
  readonly user: string;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Makes an image as a tar of an OCI layout, without any container engine. Equal files give equal bytes. */
export async function writeOciImage(spec: ImageSpec, target: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drydock-image-"));
  try {
    const blobs = join(folder, "layout", "blobs", "sha256");
    await mkdir(blobs, { recursive: true });
    const layers: Descriptor[] = [];
    for (const parts of spec.layers) layers.push(await writeLayer(parts, folder, blobs));
    const config = await writeJson(blobs, "application/vnd.oci.image.config.v1+json", {
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: {
        Entrypoint: spec.entrypoint,
        Env: spec.environment ?? [],
        WorkingDir: spec.workingDirectory ?? "/",
        User: spec.user,
      },
      rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
    });
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = await writeJson(blobs, mediaType, { schemaVersion: 2, mediaType, config, layers });
    const layout = join(folder, "layout");
    await writeFile(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    const annotations = { "io.containerd.image.name": spec.name };
    await writeFile(
      join(layout, "index.json"),
      JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
    );
    await run("tar", [...deterministic, "-C", layout, "-cf", join(folder, "image.tar"), "."]);
    await run("cp", [join(folder, "image.tar"), `${target}.${process.pid}`]);
    await rename(`${target}.${process.pid}`, target);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const deterministic = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=a+rX,go-w"];

async function writeLayer(parts: readonly LayerPart[], folder: string, blobs: string): Promise<Descriptor> {
  const layer = join(folder, "layer.tar");
  await rm(layer, { force: true });
  for (const { from, paths, into, exclude = [], follows = false } of parts) {
    const excluded = exclude.map((pattern) => `--exclude=${pattern}`);
    // Names of links keep their targets: only members are moved ("S" and "h" leave link targets alone).
    const moved = into === "" ? [] : [`--transform=s,^\\./,,;s,^,${into}/,SH`];
    await run(
      "tar",
      [
        ...deterministic,
        ...(follows ? ["--dereference"] : []),
        ...excluded,
        ...moved,
        "-C",
        from,
        "-rf",
        layer,
        ...paths,
      ],
      {
        maxBuffer: 1 << 26,
      },
    );
  }
  const descriptor = await describe(layer, "application/vnd.oci.image.layer.v1.tar");
  await rename(layer, join(blobs, descriptor.digest.slice("sha256:".length)));
  return descriptor;
}

async function writeJson(blobs: string, mediaType: string, value: unknown): Promise<Descriptor> {
  const path = join(blobs, "writing");
  await writeFile(path, JSON.stringify(value));
  const descriptor = await describe(path, mediaType);
  await rename(path, join(blobs, descriptor.digest.slice("sha256:".length)));
  return descriptor;
}

async function describe(path: string, mediaType: string): Promise<Descriptor> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return { mediaType, digest: `sha256:${hash.digest("hex")}`, size: (await stat(path)).size };
}
