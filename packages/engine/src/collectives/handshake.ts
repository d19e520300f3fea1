import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/** Who stands at an end of a connection, and what proves it. */
export interface RingIdentity {
  readonly rank: number;
  readonly worldSize: number;
  /** Attempt epoch. */
  readonly epoch: number;
  /** The attempt's secret; it never travels, both ends prove that they know it (HMAC-SHA256 over fresh nonces). */
  readonly token: string;
}

/*
 * connector → acceptor  hello   magic u32, world size u32, epoch u32, rank u32, nonce[32]
 * acceptor → connector  welcome rank u32, nonce[32], proof[32] over hello, rank and nonce
 * connector → acceptor  answer  proof[32] over hello and welcome
 */
export const helloBytes = 48;
export const welcomeBytes = 68;
export const answerBytes = 32;

/** "DRYH" */
const magic = 0x44525948;

export function writeHello({ rank, worldSize, epoch }: RingIdentity): Buffer {
  const hello = Buffer.alloc(helloBytes);
  hello.writeUInt32BE(magic, 0);
  hello.writeUInt32BE(worldSize, 4);
  hello.writeUInt32BE(epoch, 8);
  hello.writeUInt32BE(rank, 12);
  randomBytes(32).copy(hello, 16);
  return hello;
}

/** Why a hello is not what `own` waits for from `expectedRank`; null when it is. */
export function helloFault(hello: Buffer, own: RingIdentity, expectedRank: number): string | null {
  if (hello.readUInt32BE(0) !== magic) return "it does not speak the ring's protocol";
  const epoch = hello.readUInt32BE(8);
  if (epoch !== own.epoch) return `it is of attempt ${epoch}, this one is ${own.epoch}`;
  const worldSize = hello.readUInt32BE(4);
  if (worldSize !== own.worldSize) return `it counts ${worldSize} ranks, there are ${own.worldSize}`;
  const rank = hello.readUInt32BE(12);
  if (rank !== expectedRank) return `it says it is rank ${rank}, rank ${expectedRank} was expected`;
  return null;
}

export function writeWelcome(hello: Buffer, { rank, token }: RingIdentity): Buffer {
  const welcome = Buffer.alloc(welcomeBytes);
  welcome.writeUInt32BE(rank, 0);
  randomBytes(32).copy(welcome, 4);
  proofOf(token, "acceptor", hello, welcome.subarray(0, 36)).copy(welcome, 36);
  return welcome;
}

/** Why a welcome is not one of `expectedRank`; null when it is. */
export function welcomeFault(welcome: Buffer, hello: Buffer, token: string, expectedRank: number): string | null {
  const proof = proofOf(token, "acceptor", hello, welcome.subarray(0, 36));
  if (!timingSafeEqual(proof, welcome.subarray(36))) return "it does not know the attempt's token";
  const rank = welcome.readUInt32BE(0);
  return rank === expectedRank ? null : `it is rank ${rank}, not rank ${expectedRank}`;
}

export function writeAnswer(hello: Buffer, welcome: Buffer, token: string): Buffer {
  return proofOf(token, "connector", hello, welcome);
}

export function isAnswerGood(answer: Buffer, hello: Buffer, welcome: Buffer, token: string): boolean {
  return timingSafeEqual(answer, writeAnswer(hello, welcome, token));
}

function proofOf(token: string, role: string, ...parts: readonly Buffer[]): Buffer {
  const mac = createHmac("sha256", token).update(`drydock ring ${role}\n`);
  for (const part of parts) mac.update(part);
  return mac.digest();
}
