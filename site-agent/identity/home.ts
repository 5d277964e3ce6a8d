// Where things are in a site's home folder. Everything in it belongs to the agent; images never lie here.

import { join } from "node:path";
import type { Sha256, StudyId } from "@consilium/shared/base/brand.ts";

export type Home = {
  readonly folder: string;
  readonly siteFile: string;
  readonly keyFile: string;
  /** Certificate authorities that the site trusts for its coordinator; absent where Node's own are enough. */
  readonly caFile: string;
  readonly ledger: string;
  readonly blobs: string;
  readonly approvals: string;
  readonly plans: string;
  readonly models: string;
};

export function homeAt(folder: string): Home {
  return {
    folder,
    siteFile: join(folder, "site.json"),
    keyFile: join(folder, "key.pem"),
    caFile: join(folder, "ca.pem"),
    ledger: join(folder, "ledger"),
    blobs: join(folder, "blobs"),
    approvals: join(folder, "approvals"),
    plans: join(folder, "plans"),
    models: join(folder, "models"),
  };
}

export const approvalFile = (home: Home, study: StudyId): string => join(home.approvals, `${study}.json`);
export const planFile = (home: Home, plan: Sha256): string => join(home.plans, `${plan}.json`);
/** The released model of a study, as `predict` and `evaluate` take it. */
export const modelFile = (home: Home, study: StudyId): string => join(home.models, `${study}.safetensors`);
