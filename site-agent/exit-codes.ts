// How the agent's commands end, for scripts and supervisors. The table is printed by --help; a number never changes
// its meaning.

export const exitCodes = {
  done: { code: 0, sentence: "Everything asked for was done, or the agent was stopped cleanly." },
  failed: { code: 1, sentence: "Something failed that was not foreseen; the log holds its code." },
  usage: { code: 2, sentence: "The command line is not valid; nothing was done." },
  identity: { code: 3, sentence: "The home folder is not enrolled, or its key or identity cannot be used." },
  refused: { code: 4, sentence: "The coordinator refused; the message says what to do." },
  unreachable: { code: 5, sentence: "The coordinator could not be reached or did not answer as one." },
  locked: { code: 6, sentence: "Another agent is using the home folder." },
  damaged: { code: 7, sentence: "A journal, ledger or model file is not what was written." },
  data: { code: 8, sentence: "The images or labels cannot be used; each fault is listed." },
  backend: { code: 9, sentence: "The wanted compute backend is not available or computes wrongly." },
  alarm: {
    code: 10,
    sentence:
      "The coordinator's log was altered: nothing more is sent until a person runs `check --clear-alarm BY`.",
  },
  configuration: { code: 11, sentence: "The environment holds invalid settings; all of them are listed." },
  notApproved: { code: 12, sentence: "Approval was not given; nothing was signed." },
  tooLarge: {
    code: 13,
    sentence: "A training step of the plan needs more memory than there is; nothing was signed.",
  },
} as const;

export type ExitReason = keyof typeof exitCodes;

export function exitCodeTable(): string {
  const rows = Object.values(exitCodes).map(
    ({ code, sentence }) => `  ${String(code).padStart(2)}  ${sentence}`,
  );
  return ["Exit codes:", ...rows].join("\n");
}
