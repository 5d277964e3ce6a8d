// `npm run parity -- DIR [DIR...] [--json] [--backend NAME]`: runs cases of the official code's activations and gradients
// through this project's models and says how close they come. Exit codes: 0 everything equal, 1 a difference or something
// that is not understood, 2 wrong usage, 3 equal as far as supported.

import { parseArgs } from "node:util";
import { BACKEND_NAMES, type BackendName } from "../../site-agent/backend/backend-report.ts";
import { startBackend } from "../../site-agent/backend/start-backend.ts";
import { type CaseFolder, readCaseFolder } from "./case-folder.ts";
import type { Comparison } from "./comparison.ts";
import { type CaseReport, exitCode, failedReport, reportCase, reportLines } from "./report.ts";
import { isSam2Case, runSam2Case } from "./sam2-case.ts";
import { isUNetCase, runUNetCase } from "./unet-case.ts";

const USAGE = "usage: npm run parity -- DIR [DIR...] [--json] [--backend NAME]";
const FAMILIES: readonly { is: (folder: CaseFolder) => boolean; run: (folder: CaseFolder) => Comparison }[] =
  [
    { is: isSam2Case, run: runSam2Case },
    { is: isUNetCase, run: runUNetCase },
  ];

function runCase(path: string): CaseReport {
  try {
    const folder = readCaseFolder(path);
    const family = FAMILIES.find(({ is }) => is(folder));
    if (!family) return failedReport(path, "config.json is of no family that this program knows");
    return reportCase(path, family.run(folder), Object.keys(folder.tolerances).length);
  } catch (error) {
    return failedReport(path, error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  }
}

function backendName(wish: string | undefined): BackendName | undefined {
  return BACKEND_NAMES.find((name) => name === (wish ?? "wasm"));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, backend: { type: "string" } },
});
const name = backendName(values.backend);
if (positionals.length === 0 || name === undefined) {
  console.error(`${USAGE}\nbackends: ${BACKEND_NAMES.join(", ")}`);
  process.exitCode = 2;
} else {
  const backend = await startBackend(name).catch((error: unknown) => {
    console.error(
      `The backend ${name} does not start here: ${error instanceof Error ? error.message : String(error)}`,
    );
    process.exit(1);
  });
  const reports: CaseReport[] = [];
  for (const path of positionals) {
    const report = runCase(path);
    reports.push(report);
    if (!values.json) console.log(`${reportLines(report).join("\n")}\n`);
  }
  const code = exitCode(reports);
  if (values.json)
    console.log(
      JSON.stringify({ backend: `${backend.name} ${backend.version}`, exitCode: code, cases: reports }),
    );
  process.exitCode = code;
}
