/*
 * What runs on the device thread: ONNX Runtime's C API with I/O binding. Calls block the thread until the device is done.
 */
import { serveThread } from "../runtime/serve-thread.ts";
import { DeviceSessions } from "./device-sessions.ts";
import type { DeviceAnswer, DeviceRequest } from "./device-messages.ts";

let sessions: DeviceSessions | null = null;

function started(): DeviceSessions {
  if (!sessions) throw new Error("the device was not started");
  return sessions;
}

function answer(request: DeviceRequest): DeviceAnswer {
  switch (request.kind) {
    case "start":
      sessions = new DeviceSessions(request.settings);
      return { kind: "done" };
    case "open":
      started().open(request.session, request.model);
      return { kind: "done" };
    case "put":
      started().put(request.tensor);
      return { kind: "done" };
    case "get":
      started().get(request.name, request.into);
      return { kind: "done" };
    case "drop":
      for (const name of request.names) started().drop(name);
      return { kind: "done" };
    case "run":
      return { kind: "ran", outputs: started().run(request) };
    case "close":
      started().close(request.session);
      return { kind: "done" };
    case "count":
      return { kind: "counted", ...started().count() };
  }
}

serveThread(answer);
