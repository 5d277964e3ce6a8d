// Every bound of the protocol in one place, with its unit in its name. Both sides enforce them.

import { dayMs, GiB, KiB, MiB, minuteMs, secondMs } from "../base/units.ts";

/** One socket message, either way. Tensors never travel in one. */
export const socketMessageBytesMax = 512 * KiB;
/** Body of a JSON request. */
export const jsonBodyBytesMax = 512 * KiB;
/** One chunk of an upload. */
export const uploadChunkBytesMax = 8 * MiB;
/** A weights file, whole. */
export const blobBytesMax = 4 * GiB;
/** Unfinished uploads that one site may keep at the coordinator. */
export const uploadsPerSiteMax = 4;
/** Refused updates that are recorded for one site in one round; later ones are answered and not recorded. */
export const refusalsPerRoundMax = 16;
/** Documents without a study that are recorded as refused, for one site in all. */
export const refusedDocumentsPerSiteMax = 64;
/** Sites in one study. */
export const sitesPerStudyMax = 64;
export const labelsPerStudyMax = 64;
export const roundsPerStudyMax = 10_000;
/** Log entries in one page of `GET /v1/audit/entries`. */
export const entriesPerPageMax = 500;
/** Longest round that backing off after abandoned rounds may reach. */
export const roundDurationMsMax = 7 * dayMs;
export const invitationLifetimeMsMax = 30 * dayMs;
export const challengeLifetimeMs = minuteMs;
export const sessionLifetimeMs = 60 * minuteMs;
/** How often a site asks whether something is owed. Pushed messages make it faster, a lost one costs this much. */
export const helloIntervalMs = 5 * secondMs;
/** Progress messages of one site are shown at most this often. */
export const progressIntervalMs = secondMs;
