import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeQuantizedFolder, type LayerError, type QuantizeOptions } from "@drydock/engine";
import type { DataRecord } from "@drydock/spec";
import { evenly } from "../evaluation/validation-evaluator.ts";
import { readRows, type LocalRows } from "../rows/read-rows.ts";
import { measureInputs, measureModel, type MeasureSettings, type ModelMeasure } from "./measure-model.ts";

export interface QuantizeModelSettings extends MeasureSettings {
  readonly directory: string;
  readonly out: string;
  readonly rounding: Omit<QuantizeOptions, "inputPower">;
  /** Rows that say what layers are given; their training split is used. */
  readonly calibrationData: string | undefined;
  readonly calibrationRows: number;
  /** Rows that the models are compared on: their validation split, or all where there is none. */
  readonly data: string | undefined;
  readonly maxSamples: number | undefined;
  readonly say: (message: string) => void;
}

/** `quantization.json` in the quantized folder. */
export interface QuantizationReport {
  readonly schema: "drydock-quantization/1";
  readonly model: string;
  readonly out: string;
  readonly settings: {
    readonly format: string;
    readonly blockSize: number;
    readonly doubleQuantization: boolean;
    readonly percentile: number;
    /** Rows that activation scales were made from; 0 = none were. */
    readonly calibrationRows: number;
  };
  /** Bytes of the weight files. */
  readonly weightBytes: { readonly before: number; readonly after: number };
  readonly layers: readonly LayerError[];
  readonly comparison: Comparison | null;
}

export interface Comparison {
  readonly data: string;
  readonly task: string;
  readonly rows: number;
  readonly before: ModelMeasure;
  readonly after: ModelMeasure;
  /** (after − before) / before of the perplexity. */
  readonly perplexityChange: number;
  /** after − before, by metric. */
  readonly scoreChanges: Readonly<Record<string, number>>;
}

/** Rows to compare on, with the folder or file that they are of. */
interface ComparedRows extends LocalRows {
  readonly path: string;
}

/**
 * Writes a quantized copy of a model and says what that did to it. Data is read first, so that a mistake in it ends the work
 * before it begins.
 */
export async function quantizeModel(settings: QuantizeModelSettings): Promise<QuantizationReport> {
  const { directory, out, rounding, calibrationData, data = calibrationData, task, say } = settings;
  const scratch = await mkdtemp(join(tmpdir(), "drydock-quantize-"));
  try {
    const compared =
      data === undefined ? null : { ...(await readRows(data, join(scratch, "compared"), task)), path: data };
    const calibration = calibrationData === undefined ? null : await calibrate(settings, calibrationData, scratch);
    say(`rounding the linear layers of the decoder to ${rounding.format}`);
    const inputPower = calibration?.inputPower;
    const layers = await writeQuantizedFolder(directory, out, { ...rounding, ...(inputPower ? { inputPower } : {}) });
    const report: QuantizationReport = {
      schema: "drydock-quantization/1",
      model: directory,
      out,
      settings: {
        format: rounding.format,
        blockSize: rounding.blockSize,
        doubleQuantization: rounding.doubleQuantization ?? false,
        percentile: rounding.percentile ?? 100,
        calibrationRows: calibration?.rows ?? 0,
      },
      weightBytes: { before: await weightBytes(directory), after: await weightBytes(out) },
      layers,
      comparison: compared && (await compare(settings, compared)),
    };
    await writeFile(join(out, "quantization.json"), `${JSON.stringify(report, null, 2)}\n`);
    return report;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function calibrate(
  settings: QuantizeModelSettings,
  path: string,
  scratch: string,
): Promise<{ rows: number; inputPower: Awaited<ReturnType<typeof measureInputs>> }> {
  const { directory, calibrationRows, task, say } = settings;
  const rows = await readRows(path, join(scratch, "calibration"), task);
  const records = evenly(splitOf(rows.records, "train"), calibrationRows);
  say(`looking at what the layers are given by ${records.length} rows of ${path}`);
  return { rows: records.length, inputPower: await measureInputs(directory, records, rows, settings) };
}

async function compare(settings: QuantizeModelSettings, rows: ComparedRows): Promise<Comparison> {
  const { directory, out, task, maxSamples, say } = settings;
  const validation = splitOf(rows.records, "validation");
  const records = maxSamples === undefined ? validation : evenly(validation, maxSamples);
  say(`answering ${records.length} rows of ${rows.path} with the model as it was`);
  const before = await measureModel(directory, records, rows, settings);
  say("answering them with the quantized one");
  const after = await measureModel(out, records, rows, settings);
  return {
    data: rows.path,
    task,
    rows: records.length,
    before,
    after,
    perplexityChange: after.perplexity / before.perplexity - 1,
    scoreChanges: Object.fromEntries(
      Object.entries(before.scores).map(([metric, score]) => [metric, (after.scores[metric] ?? 0) - score]),
    ),
  };
}

/** The rows of a split; all where it is empty. */
function splitOf(records: readonly DataRecord[], split: DataRecord["split"]): readonly DataRecord[] {
  const chosen = records.filter((record) => record.split === split);
  return chosen.length > 0 ? chosen : records;
}

async function weightBytes(directory: string): Promise<number> {
  const files = (await readdir(directory)).filter((name) => name.endsWith(".safetensors"));
  const sizes = await Promise.all(files.map(async (name) => (await stat(join(directory, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
