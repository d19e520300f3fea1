export type { LoraOptions } from "./adapters/lora-options.ts";
export { ManyAdapters, type AdapterName } from "./adapters/many-adapters.ts";
export { mergeAdapter } from "./adapters/merge-adapter.ts";
export { readAdapter } from "./adapters/peft-files.ts";
export { placeLora } from "./adapters/place-lora.ts";
export { BatchStream } from "./batch/batch-stream.ts";
export { collate } from "./batch/collate.ts";
export { ConversationEncoder } from "./batch/conversation-encoder.ts";
export { type EncodedRow } from "./batch/encoded-row.ts";
export type { BatchPicture, ModelBatch } from "./batch/model-batch.ts";
export { RowOrder } from "./batch/row-order.ts";
export { PeerLostError, shardOf, type Collective, type NumberArray, type Shard } from "./collectives/collective.ts";
export { exchangeTexts } from "./collectives/exchange-texts.ts";
export { RingListener } from "./collectives/ring-connect.ts";
export { TcpRing, type RingOptions, type Traffic } from "./collectives/tcp-ring.ts";
export { RingThread, type ThreadedRing } from "./collectives/threaded-ring.ts";
export type { DeviceSettings } from "./device/device.ts";
export { AnswerGenerator, type GenerationOptions } from "./generation/answer-generator.ts";
export { exportOnnx, type OnnxExport } from "./export/export-onnx.ts";
export { TokenLoss, type LossSums } from "./generation/token-loss.ts";
export { decodeImage, maxDecodedPixels, type RgbImage } from "./image/decode-image.ts";
export type { ImageProcessor, PixelBounds, PixelSize, ProcessedImage } from "./image/image-processor.ts";
export { QwenImageProcessor } from "./image/qwen-image-processor.ts";
export { resizeBicubic, type PassOrder } from "./image/resize.ts";
export { loadModel, type LoadedModel } from "./models/load-model.ts";
export { openModel } from "./models/families.ts";
export { loadImageProcessor } from "./models/load-image-processor.ts";
export { chatMl, wholeForward, type Model } from "./models/model.ts";
export { gridPositions } from "./models/parts/grid-positions.ts";
export { createRandomModel } from "./models/random-model.ts";
export { openPipeline, type OpenPipeline } from "./pipeline/open-pipeline.ts";
export type { PipelineStage, StageChannel, Way } from "./pipeline/pipeline-stage.ts";
export { unnestScales } from "./quantization/double-quantization.ts";
export {
  defaultBlockSize,
  parseFormat,
  quantizedFormats,
  type QuantizedFormat,
  type QuantizedLayout,
} from "./quantization/formats.ts";
export { dequantizeWeight, quantizeWeight } from "./quantization/quantize-weight.ts";
export type { InputPower } from "./quantization/activation-scales.ts";
export type { QuantizationSettings } from "./quantization/quantized-weights.ts";
export { writeDequantizedFolder } from "./quantization/write-dequantized-folder.ts";
export { writeQuantizedFolder, type LayerError, type QuantizeOptions } from "./quantization/write-quantized-folder.ts";
export { ChatTemplate, partsOf, type ChatMessage, type ChatPart } from "./text/chat-template.ts";
export { StreamingDecoder } from "./text/streaming-decoder.ts";
export { TextTokenizer } from "./text/tokenizer.ts";
export { trainByteLevelBpe } from "./text/train-tokenizer.ts";
export { SeededRandom } from "./training/random.ts";
export { gradientsOf } from "./training/gradients-of.ts";
export { learningRateAt, type Schedule } from "./training/schedule.ts";
export { EngineTrainer, type StepResult, type TrainerOptions } from "./training/trainer.ts";
export { type TrainerMoments, type TrainerState } from "./training/trainer-state.ts";
export { partsIn } from "./weights/folder-parts.ts";
export { openModelFolder } from "./weights/open-model-folder.ts";
export { readWeights } from "./weights/read-weights.ts";
export { type ModelFolder } from "./weights/model-folder.ts";
export {
  readSafetensorsHeader,
  readTensorBytes,
  type SafetensorsHeader,
  writeSafetensors,
  type WritableTensor,
} from "./weights/safetensors.ts";
export { readFloatTensors } from "./weights/read-floats.ts";
