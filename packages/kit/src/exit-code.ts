/** Exit codes of worker processes (design §7). The cluster back ends map them to failure classes. */
export const exitCodes = {
  done: 0,
  badConfig: 64,
  badData: 65,
  outOfMemory: 71,
  retry: 75,
  hardware: 86,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCodeName = keyof typeof exitCodes;
