// ONNX Runtime 1.30 sends usage events to its makers unless this is set before the library is loaded. Training on
// one's own machines must not talk to anyone: imported before `onnxruntime-node`, and inherited by child processes.
process.env["ORT_DISABLE_TELEMETRY"] = "1";
