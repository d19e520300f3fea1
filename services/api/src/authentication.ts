import { timingSafeEqual } from "node:crypto";
import { ForbiddenError, UnauthenticatedError, sha256 } from "@drydock/kit";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { type KeyOwner, type KeyStore } from "./store/key-store.ts";
import type { Scope } from "./store/schema.ts";

/** How long a key that was found is not looked up again: a revoked one works this much longer, at most. */
const rememberedMs = 5_000;

const callers = new WeakMap<FastifyRequest, KeyOwner>();

/** Who sent an authenticated request. */
export function callerOf(request: FastifyRequest): KeyOwner {
  const owner = callers.get(request);
  if (owner === undefined) throw new Error(`${request.method} ${request.url} is not behind authentication`);
  return owner;
}

/**
 * Lets only requests with a key through to the routes of this scope: reading needs `read`, other methods `submit`,
 * routes marked `config: { scope: "admin" }` that. A scope includes the ones before it.
 */
export function requireApiKey(app: FastifyInstance, keys: KeyStore): void {
  const remembered = new Map<string, { owner: KeyOwner; until: number }>();
  const find = async (secret: string): Promise<KeyOwner | null> => {
    const hash = sha256(secret);
    const known = remembered.get(hash);
    if (known !== undefined && known.until > Date.now()) return known.owner;
    remembered.delete(hash);
    const owner = await keys.find(secret);
    if (owner !== null) {
      if (remembered.size > 10_000) remembered.clear();
      remembered.set(hash, { owner, until: Date.now() + rememberedMs });
    }
    return owner;
  };
  app.addHook("onRequest", async (request) => {
    const owner = await find(bearerOf(request));
    if (owner === null)
      throw new UnauthenticatedError(
        "unknown_key",
        "this API key is unknown or was revoked: use one that `drydock up` printed, or ask your administrator",
      );
    const scope =
      request.routeOptions.config.scope ?? (request.method === "GET" || request.method === "HEAD" ? "read" : "submit");
    if (!includesScope(owner, scope))
      throw new ForbiddenError(
        "missing_scope",
        `this API key lacks the scope "${scope}" (it has ${owner.scopes.join(", ")}): use another key`,
      );
    callers.set(request, owner);
  });
}

/** Lets only requests with the internal key through. */
export function requireInternalKey(app: FastifyInstance, internalKey: string): void {
  const expected = Buffer.from(sha256(internalKey));
  app.addHook("onRequest", async (request) => {
    const given = Buffer.from(sha256(bearerOf(request)));
    if (!timingSafeEqual(given, expected))
      throw new UnauthenticatedError("unknown_key", "internal routes take the internal key only");
    callers.set(request, { id: "controller", scopes: ["admin"] });
  });
}

function bearerOf(request: FastifyRequest): string {
  const secret = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (secret === undefined)
    throw new UnauthenticatedError("no_key", "send an API key in the header `Authorization: Bearer <key>`");
  return secret;
}

function includesScope(owner: KeyOwner, scope: Scope): boolean {
  const implied: Readonly<Record<Scope, readonly Scope[]>> = {
    read: ["read", "submit", "admin"],
    submit: ["submit", "admin"],
    admin: ["admin"],
  };
  return owner.scopes.some((each) => implied[scope].includes(each));
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Needed to use the route; default by method. */
    scope?: Scope;
  }
}
