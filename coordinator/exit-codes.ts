// How `consilium` ends, for scripts. Numbers never change their meaning.

export const exitCodes = {
  done: { code: 0, sentence: "done" },
  failed: { code: 1, sentence: "an unexpected fault; the message says which" },
  usage: { code: 2, sentence: "the command line or the configuration is wrong" },
  refused: { code: 3, sentence: "the coordinator refused; the message names the code" },
  notVerified: { code: 4, sentence: "verification found something wrong" },
  notRecomputable: { code: 5, sentence: "verified, but tensors were deleted under the retention rule" },
  unreachable: { code: 6, sentence: "the coordinator does not answer" },
  database: { code: 7, sentence: "the database cannot be started, reached or migrated" },
  damagedLog: { code: 8, sentence: "the stored log is not the one that was signed" },
} as const;

export type ExitName = keyof typeof exitCodes;

export function exitCodeTable(): string {
  const lines = Object.values(exitCodes).map(({ code, sentence }) => `  ${code}  ${sentence}`);
  return `\nExit codes:\n${lines.join("\n")}`;
}
