// `siskin/interpret`: what the page's views of a model compute, as functions.

export { cuts, logProbabilities, logProbability, rankOf, ranking, type Cuts, type Settings as SamplingSettings } from "./interpret/distribution.js";
export { headScores, roleOf, scoreHeads, type HeadScore } from "./interpret/heads.js";
export { assemblyOf, mergeTree, type MergeNode } from "./interpret/merges.js";
export { ablation, lensByPart, logitsWithout, partsOf, type LensOfPart, type Part } from "./interpret/parts.js";
export { pairs, project, type Pair, type Projection } from "./interpret/points.js";
export { bytesPerToken, weightsByRole, type TensorRole } from "./interpret/speed.js";
export { surprises, type Surprise } from "./interpret/surprise.js";
export { grow, type Branch } from "./interpret/tree.js";
