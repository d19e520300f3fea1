import { describeParity } from "./parity-suite.ts";

describeParity("llava-next", ["mistral", "llama-tied", "qwen2"]);
