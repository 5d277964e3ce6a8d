// The report in two forms with the same numbers: report.json for machines, report.html for people, which loads nothing
// from anywhere.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { lineChart } from "./chart.ts";
import { COLUMNS, MODELS, meanOfLocals, type SiteComparison, STAGE_WORDS } from "./comparison.ts";
import type { FederatedRun, PhaseRun } from "./federated-run.ts";
import type { Picture } from "./pictures.ts";

export type Verified = {
  readonly verdict: string;
  readonly facts: readonly string[];
  readonly faults: readonly string[];
  readonly bundle: string;
  readonly bundleBytes: number;
};
export type Report = {
  readonly options: {
    readonly recipe: string;
    readonly seed: number;
    readonly data: "phantom" | "given";
  };
  readonly federation: Omit<FederatedRun, "url">;
  readonly comparison: readonly SiteComparison[];
  readonly evidence: Verified;
  /** Bytes that left each hospital, as its own ledger has them. */
  readonly sent: readonly { readonly site: string; readonly wireBytes: number }[];
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
};

export async function writeReport(out: string, report: Report, pictures: readonly Picture[]): Promise<void> {
  await writeFile(join(out, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(join(out, "report.html"), page(report, pictures));
}

function page(report: Report, pictures: readonly Picture[]): string {
  const { federation, evidence } = report;
  const isGpu = federation.backends.some((backend) => backend.isGpu);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Consilium: three hospitals, one model</title><style>${style}</style></head><body>
<header><h1>Three hospitals trained one model</h1>
<p>${report.comparison.length} sites, ${federation.phases.map(lengthOf).join(", then ")}; seed ${report.options.seed}, ${report.options.data === "phantom" ? "drawn phantoms" : "real volumes"}. No image left its hospital.</p>
<p class="verdict ${evidence.verdict === "verified" ? "good" : "bad"}">Evidence of version <code>${federation.version.slice(0, 16)}</code>: ${html(evidence.verdict)} by the offline verifier</p>
${isGpu ? "" : '<p class="note">Trained without a GPU.</p>'}</header>
<section><h2>Dice on each hospital's own validation volumes</h2>${comparison(report.comparison)}
<p class="note">${report.options.recipe === "rfmedsam2" ? "Base: SAM 2.1 as it was pretrained on drawn shapes, behind the federated prompter, with adapters that change nothing. " : "Base: the start model. "}Local: the hospital alone, same start, same number of steps; below it, what the three models that were trained alone score here on average. Atlas: the voxel-wise atlas of its own training labels. HD95 in mm in brackets.</p></section>
${stageSection(report.comparison)}
<section><h2>Round by round</h2>${federation.phases.map((phase) => `<h3>${html(phaseTitle(phase, report))}</h3>${curves(phase, federation.labels)}`).join("")}<p class="note">Mean Dice of the answer on a fixed set of slices, as each site reported it.</p></section>
<section><h2>What the released model sees</h2>${pictures.map(({ site, panels, png }) => `<figure><img alt="${html(`${site}: ${panels.join(", ")}`)}" src="data:image/png;base64,${Buffer.from(png).toString("base64")}"><figcaption>${html(`${site}: ${panels.join(", ")}`)}</figcaption></figure>`).join("")}<p class="note">Boxes: the largest part of each organ that the prompter sees in the slice, a little widened; with it, its mask is asked about.</p></section>
<section><h2>Lineage of the released version</h2><ol class="lineage">${evidence.facts.map((fact) => `<li>${html(fact)}</li>`).join("")}</ol>${evidence.faults.map((fault) => `<p class="bad">${html(fault)}</p>`).join("")}</section>
<section><h2>What left the hospitals</h2>${sent(report)}</section>
<footer>${report.cpuSeconds.toFixed(0)} CPU seconds over all processes, ${report.wallSeconds.toFixed(0)} seconds on the clock. Backends: ${federation.backends.map(({ site, name }) => `${html(site)} ${html(name)}`).join(", ")}.</footer>
</body></html>
`;
}

function comparison(rows: readonly SiteComparison[]): string {
  const cell = (
    dice: number | null | undefined,
    hd95Mm: number | null | undefined,
    isBest: boolean,
  ): string => {
    if (dice === null || dice === undefined) return "<td>–</td>";
    const distance = hd95Mm === null || hd95Mm === undefined ? "" : ` <small>(${hd95Mm.toFixed(1)})</small>`;
    return `<td${isBest ? ' class="best"' : ""}>${dice.toFixed(3)}${distance}</td>`;
  };
  const line = (
    name: string,
    scores: readonly ({ dice: number | null; hd95Mm: number | null } | undefined)[],
    kind: string,
  ): string => {
    const best = Math.max(...scores.map((one) => one?.dice ?? -1));
    return `<tr${kind}><th>${html(name)}</th>${scores.map((one) => cell(one?.dice, one?.hd95Mm, one?.dice === best)).join("")}</tr>`;
  };
  const body = rows.map((row) => {
    const labels = row.federated.labels.map(({ label }) =>
      line(
        label,
        COLUMNS.map((column) => row[column]?.labels.find((one) => one.label === label)),
        "",
      ),
    );
    return `<tbody><tr class="site"><th colspan="5">${html(row.site)}</th></tr>${labels.join("")}${line(
      "mean",
      COLUMNS.map((column) => row[column]?.mean),
      ' class="mean"',
    )}<tr><th>mean of the ${row.everyLocal.length} local models</th><td></td><td></td><td>${meanOfLocals(row)?.toFixed(3) ?? "–"}</td><td></td></tr></tbody>`;
  });
  return `<table><thead><tr><th></th>${COLUMNS.map((column) => `<th>${column}</th>`).join("")}</tr></thead>${body.join("")}</table>`;
}

function curves({ rounds }: PhaseRun, labels: FederatedRun["labels"]): string {
  const sites = [...new Set(rounds.map(({ site }) => site))].sort();
  const overall = lineChart({
    title: "Mean over organs",
    series: sites.map((site) => ({
      name: site,
      points: rounds
        .filter((one) => one.site === site)
        .map(({ round, meanDice }) => ({ x: round, y: meanDice })),
    })),
  });
  const perLabel = labels.map(({ id, name }) =>
    lineChart({
      title: name,
      series: sites.map((site) => ({
        name: site,
        points: rounds
          .filter((one) => one.site === site)
          .map((one) => ({ x: one.round, y: one.labels.find(({ label }) => label === id)?.dice ?? null })),
      })),
    }),
  );
  return `<div class="charts">${[overall, ...perLabel].join("")}</div>`;
}

/** Empty where the answers have no stages. */
function stageSection(rows: readonly SiteComparison[]): string {
  if (rows.every(({ stages }) => Object.keys(stages.federated).length === 0)) return "";
  const body = rows.map(({ site, stages }) => {
    const lines = Object.entries(STAGE_WORDS).map(([stage, words]) => {
      const cells = MODELS.map((model) => `<td>${stages[model][stage]?.toFixed(3) ?? "–"}</td>`);
      return `<tr><th>${words}</th>${cells.join("")}</tr>`;
    });
    return `<tbody><tr class="site"><th colspan="4">${html(site)}</th></tr>${lines.join("")}</tbody>`;
  });
  return `<section><h2>Stage by stage</h2><table><thead><tr><th>mean Dice</th>${MODELS.map((model) => `<th>${model}</th>`).join("")}</tr></thead>${body.join("")}</table>
<p class="note">The prompter's boxes and masks ask SAM 2 slice by slice (stage 1), then again with the memory of other slices (stage 2). All three are automatic: no label was looked at.</p></section>`;
}

function phaseTitle({ trains }: PhaseRun, { options }: Report): string {
  return options.recipe === "unet-prompter"
    ? "The network"
    : trains === "prompter"
      ? "The prompter"
      : "The adapters";
}

function lengthOf({ versions, stepsPerRound, trains }: PhaseRun): string {
  const rounds = versions.length - 1;
  return `${rounds} ${rounds === 1 ? "round" : "rounds"} of ${stepsPerRound} steps for the ${trains}`;
}

function sent(report: Report): string {
  const { sent: rows, federation } = report;
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
  const phases = federation.phases.map((phase) => {
    const { perUpdate, updates, weights } = phase.bytes;
    return `<tr><th>${html(phaseTitle(phase, report))}</th><td>${megabytes(perUpdate)}</td><td>${((100 * perUpdate) / weights).toFixed(1)} %</td><td>${megabytes(updates)}</td></tr>`;
  });
  const lines = rows.map(
    ({ site, wireBytes }) => `<tr><th>${html(site)}</th><td>${megabytes(wireBytes)}</td></tr>`,
  );
  return `<p>A whole model in float32: ${megabytes(federation.phases[0]?.bytes.weights ?? 0)}.</p>
<table><thead><tr><th></th><th>one update of one round</th><th>of a whole model</th><th>all updates</th></tr></thead><tbody>${phases.join("")}</tbody></table>
<table><thead><tr><th></th><th>every byte that left, framing included</th></tr></thead><tbody>${lines.join("")}</tbody></table>`;
}

function html(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[char] ?? char,
  );
}

const style = `
:root{color-scheme:light dark;--ink:#1b2330;--paper:#fbfbf9;--line:#d8dbe0;--soft:#5d6775;--good:#0a7d55;--bad:#b3261e;--best:#e7f3ee}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--paper:#14181f;--line:#333b47;--soft:#9aa5b4;--good:#4cc79a;--bad:#ff8a80;--best:#16352b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:960px;margin:0 auto;padding:24px}
h1{font-size:26px;margin:0 0 4px}h3{font-size:15px;margin:18px 0 6px}h2{font-size:18px;margin:36px 0 10px;border-bottom:1px solid var(--line);padding-bottom:4px}
.note,footer{color:var(--soft);font-size:13px}footer{margin-top:40px;border-top:1px solid var(--line);padding-top:10px}
.verdict{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:3px 14px;text-align:right;border-bottom:1px solid var(--line)}
tbody th{text-align:left;font-weight:400}.site th{font-weight:600;padding-top:12px}.mean{font-weight:600}.mean th{font-weight:600}td.best{background:var(--best)}small{color:var(--soft)}
.charts{display:flex;flex-wrap:wrap;gap:16px}figure{margin:0 0 16px}img{max-width:100%;image-rendering:pixelated;border-radius:4px}figcaption{color:var(--soft);font-size:13px}
.lineage{padding-left:20px}code{font-size:90%}`;
