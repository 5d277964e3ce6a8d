import type { CaseFolder } from "./case-folder.ts";
import { Comparison } from "./comparison.ts";
export function isUNetCase({ config }: CaseFolder): boolean {
  return "features_per_stage" in config;
}
export function runUNetCase(folder: CaseFolder): Comparison {
  return new Comparison(folder);
}
