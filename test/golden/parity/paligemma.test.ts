import { describeParity } from "./parity-suite.ts";

describeParity("paligemma", ["one-key-head", "wide-heads", "grouped"]);
