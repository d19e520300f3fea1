/** Steps without an overflow after which the scale doubles, and the largest scale. Source: torch.amp.GradScaler's defaults. */
const growthInterval = 2000;
const largest = 2 ** 24;

/**
 * The factor on the loss that keeps small gradients of half-precision products from becoming zero: halved when a gradient
 * overflows, whose step is left out, and doubled after many steps without one.
 */
export class LossScale {
  #value: number;
  #goodSteps = 0;
  readonly #isFixed: boolean;

  /** @param first  1 keeps it at 1: bfloat16 and float32 need no scale */
  constructor(first: number) {
    this.#value = first;
    this.#isFixed = first === 1;
  }

  get value(): number {
    return this.#value;
  }

  /** Takes note whether the gradients of a step were finite. */
  observe(isFinite: boolean): void {
    if (this.#isFixed) return;
    if (!isFinite) {
      this.#value = Math.max(1, this.#value / 2);
      this.#goodSteps = 0;
    } else if (++this.#goodSteps === growthInterval) {
      this.#value = Math.min(largest, this.#value * 2);
      this.#goodSteps = 0;
    }
  }
}
