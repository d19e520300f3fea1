import { describeParity } from "./parity-suite.ts";

describeParity("nvila", ["parts-tied", "parts-untied", "flat"], {
  hasAdapters: false,
  reference: "its published source, restated (nvila_reference.py)",
});
