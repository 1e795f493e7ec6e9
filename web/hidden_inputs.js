// Nodes of the Vue renderer are as high as all their inputs, and stay so where the advanced ones are hidden. Their
// height without these is enough: what they show keeps them higher.
import { app } from '../../scripts/app.js'

app.registerExtension({
  name: 'AnimateDiffNative.HiddenInputs',
  nodeCreated(node) {
    if (!LiteGraph.vueNodesMode || !node.comfyClass?.startsWith('ADN_')) return
    const { required, optional } = node.constructor.nodeData.input
    const hidden = Object.values({ ...required, ...optional }).filter(([, options]) => options?.advanced)
    node.setSize([node.size[0], Math.max(0, node.size[1] - hidden.length * (LiteGraph.NODE_WIDGET_HEIGHT + 4))])
  }
})
