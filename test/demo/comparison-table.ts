// The comparison as text for a terminal.

import { COLUMNS, MODELS, meanOfLocals, type SiteComparison, STAGE_WORDS } from "./comparison.ts";

export function comparisonTable(rows: readonly SiteComparison[]): string {
  return [organTable(rows), stageTable(rows)].filter((table) => table !== "").join("\n\n");
}

function organTable(rows: readonly SiteComparison[]): string {
  const lines = rows.flatMap((row) => {
    const diceOf = (column: (typeof COLUMNS)[number], label: string): number | null | undefined =>
      row[column]?.labels.find((one) => one.label === label)?.dice;
    return [
      ...row.federated.labels.map(({ label }) =>
        line(
          `${row.site}  ${label}`,
          COLUMNS.map((column) => diceOf(column, label)),
        ),
      ),
      line(
        `${row.site}  mean`,
        COLUMNS.map((column) => row[column]?.mean.dice),
      ),
      `${"".padEnd(10)}mean of the ${row.everyLocal.length} local models ${cell(meanOfLocals(row))}`,
    ];
  });
  return [heading("Dice on own validation volumes", COLUMNS), ...lines].join("\n");
}

/** Empty where no answer has stages. */
function stageTable(rows: readonly SiteComparison[]): string {
  if (rows.every(({ stages }) => Object.keys(stages.federated).length === 0)) return "";
  const lines = rows.flatMap((row) =>
    Object.entries(STAGE_WORDS).map(([stage, words]) =>
      line(
        `${row.site}  ${words}`,
        MODELS.map((model) => row.stages[model][stage]),
      ),
    ),
  );
  return [heading("Mean Dice stage by stage", MODELS), ...lines].join("\n");
}

function heading(title: string, columns: readonly string[]): string {
  return `${title.padEnd(34)}${columns.map((column) => column.padStart(10)).join("")}`;
}

function line(title: string, values: readonly (number | null | undefined)[]): string {
  return `${title.padEnd(34)}${values.map(cell).join("")}`;
}

function cell(value: number | null | undefined): string {
  return (value === null || value === undefined ? "-" : value.toFixed(4)).padStart(10);
}
