import { describeParity } from "./parity-suite.ts";

describeParity("llava", ["llama", "mistral-full", "qwen2-tied"]);
