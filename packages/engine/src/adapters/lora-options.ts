/** What a user chooses of LoRA; names and meaning are PEFT's `LoraConfig`. */
export interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  /**
   * `all-linear`, names of layers (a module path, or its end behind a dot), or, as any other text, a regular expression that
   * matches whole module paths.
   */
  readonly targets: string | readonly string[];
  /** Whether `all-linear` and names reach the vision tower and the bridge, too; a regular expression always does. */
  readonly includeVision?: boolean | undefined;
  /** Module paths or ends of them, or a regular expression: what is left out. */
  readonly exclude?: string | readonly string[] | undefined;
  /** Scale alpha/√rank in place of alpha/rank (Kalajdzievski 2023, arXiv 2312.03732). */
  readonly useRslora?: boolean | undefined;
  /** Lengths of the rows of a weight are trained on their own (Liu et al. 2024, arXiv 2402.09353). */
  readonly useDora?: boolean | undefined;
  /** First values of A: uniform in ±1/√in, or normal with σ 1/rank. B is zero. */
  readonly initialization?: "kaiming" | "gaussian" | undefined;
  /** Which biases are trained with the matrices. */
  readonly bias?: "none" | "all" | "lora_only" | undefined;
  /** Modules that are trained whole: a path, or its end behind a dot. */
  readonly modulesToSave?: readonly string[] | undefined;
  /** Ranks and alphas of single modules, by a regular expression that matches the end of the path behind a dot. */
  readonly rankPattern?: Readonly<Record<string, number>> | undefined;
  readonly alphaPattern?: Readonly<Record<string, number>> | undefined;
}
