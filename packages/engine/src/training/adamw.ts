/** Settings of AdamW as torch names them. */
export interface AdamWSettings {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** A trained tensor with its moments, updated in place. */
export interface TrainedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
  readonly gradient: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
  readonly isDecayed: boolean;
}

/**
 * Whether the reference's trainer decays a weight: not biases, not layer norms, not names with a part `norm` or ending in
 * `_norm`. Source: `get_parameter_names`, `Trainer.get_decay_parameter_names` of huggingface/transformers.
 *
 * @param isLayerNorm  true for weights of a LayerNorm (an RMS norm under another name is decayed)
 */
export function isDecayed(name: string, isLayerNorm: boolean): boolean {
  const lower = name.toLowerCase();
  if (isLayerNorm || /bias|layernorm|rmsnorm/.test(lower)) return false;
  return !lower.split(".").some((part) => part === "norm" || part.endsWith("_norm"));
}

/** L2 norm over all gradients, each times `scale`; summed in double precision in a fixed order. */
export function gradientNorm(tensors: readonly TrainedTensor[], scale: number): number {
  let sum = 0;
  for (const { gradient } of tensors) {
    let part = 0;
    for (let index = 0; index < gradient.length; index++) {
      const value = gradient[index] as number;
      part += value * value;
    }
    sum += part;
  }
  return Math.sqrt(sum) * scale;
}

/**
 * One AdamW step in place: decoupled decay, bias-corrected moments, ε after the root.
 * Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; order of operations as torch.optim.AdamW.
 *
 * @param step           counts from 1
 * @param gradientScale  factor on every gradient (1/tokens times the clip coefficient)
 */
export function adamWStep(
  tensors: readonly TrainedTensor[],
  settings: AdamWSettings,
  learningRate: number,
  step: number,
  gradientScale: number,
): void {
  const [beta1, beta2] = settings.betas;
  const rate = learningRate / (1 - beta1 ** step);
  const rootScale = 1 / Math.sqrt(1 - beta2 ** step);
  for (const tensor of tensors) {
    const keep = tensor.isDecayed ? 1 - learningRate * settings.weightDecay : 1;
    updateTensor(tensor, { beta1, beta2, rate, rootScale, keep, epsilon: settings.epsilon, gradientScale });
  }
}

interface UpdateFactors {
  readonly beta1: number;
  readonly beta2: number;
  readonly rate: number;
  readonly rootScale: number;
  readonly keep: number;
  readonly epsilon: number;
  readonly gradientScale: number;
}

function updateTensor({ values, gradient, firstMoment, secondMoment }: TrainedTensor, factors: UpdateFactors): void {
  const { beta1, beta2, rate, rootScale, keep, epsilon, gradientScale } = factors;
  const rest1 = 1 - beta1;
  const rest2 = 1 - beta2;
  for (let index = 0; index < values.length; index++) {
    const g = (gradient[index] as number) * gradientScale;
    const m = (firstMoment[index] as number) * beta1 + g * rest1;
    const v = (secondMoment[index] as number) * beta2 + g * g * rest2;
    firstMoment[index] = m;
    secondMoment[index] = v;
    values[index] = (values[index] as number) * keep - (rate * m) / (Math.sqrt(v) * rootScale + epsilon);
  }
}
