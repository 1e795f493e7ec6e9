// Nodes of the Vue renderer are as high as all their inputs, and stay so where the advanced ones are hidden. Their
// height without these is enough: what they show keeps them higher. A node that was made higher by hand stays so.
import { app } from '../../scripts/app.js'

const fit = node => {
  if (!LiteGraph.vueNodesMode || !node.comfyClass?.startsWith('ADN_')) return
  const { required, optional } = node.constructor.nodeData.input
  const hidden = Object.values({ ...required, ...optional }).filter(([, options]) => options?.advanced)
  const [, height] = node.computeSize()
  if (node.size[1] !== height) return
  node.setSize([node.size[0], Math.max(0, height - hidden.length * (LiteGraph.NODE_WIDGET_HEIGHT + 4))])
}

app.registerExtension({ name: 'AnimateDiffNative.HiddenInputs', nodeCreated: fit, loadedGraphNode: fit })
